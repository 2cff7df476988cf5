"""Who may connect. What is there: the framework of enhanced authentication; no method yet."""

from broker.auth.enhanced import Continue, EnhancedAuthenticator, Exchange, Failure, Outcome, Success

__all__ = ["Continue", "EnhancedAuthenticator", "Exchange", "Failure", "Outcome", "Success"]
