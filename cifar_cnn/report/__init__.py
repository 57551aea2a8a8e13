"""What is told about a trained classifier: tables, plots and per-example files."""
