"""Tokens, checked by PyJWT and cryptography."""
