"""What the author of a connector or an embedder imports. Imports nothing else of this package."""

from .auth import Auth, Bearer, BearerCredentials, Direct, NoAuth
from .embedder import Embedder, Endpoint, Vectors
from .entity import Breadcrumb, Deleted, Entity, Seen, Skipped
from .errors import (
    AuthError,
    ConfigError,
    EmbedderError,
    RateLimited,
    SourceError,
    Stalled,
    Stopped,
    Unavailable,
    Unembeddable,
    Unreadable,
)
from .private import is_private, is_private_name
from .source import Context, Items, Partition, Rate, Source

__all__ = [
    "Auth",
    "AuthError",
    "Bearer",
    "BearerCredentials",
    "Breadcrumb",
    "ConfigError",
    "Context",
    "Deleted",
    "Direct",
    "Embedder",
    "EmbedderError",
    "Endpoint",
    "Entity",
    "Items",
    "NoAuth",
    "Partition",
    "Rate",
    "RateLimited",
    "Seen",
    "Skipped",
    "Source",
    "SourceError",
    "Stalled",
    "Stopped",
    "Unavailable",
    "Unembeddable",
    "Unreadable",
    "Vectors",
    "is_private",
    "is_private_name",
]
