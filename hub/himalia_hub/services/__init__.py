"""Services: programs beside the hub, with rights of their own; some the hub starts itself."""
