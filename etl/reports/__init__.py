"""What is written for readers outside: the pre-check of a file and a bank's contract pack."""
