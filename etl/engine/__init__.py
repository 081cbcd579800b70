"""The engines that run the project's SQL, and the models they run."""
