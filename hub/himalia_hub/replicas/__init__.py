"""The hubs that share one database: who is there, who leaves, and what each was asked to do."""
