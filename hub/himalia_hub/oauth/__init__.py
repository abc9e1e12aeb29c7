"""The OAuth 2 provider with which single-user servers sign their visitors in."""
