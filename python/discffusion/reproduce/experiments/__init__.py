"""One file for each table and figure of the paper: its figures as printed, its rows, its claims."""
