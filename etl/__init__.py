"""creditvillage: from bank files, household records and mediation logs to released credit grades."""
