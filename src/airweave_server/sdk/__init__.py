"""What the author of a connector or an embedder imports. Imports nothing else of this package."""

from .auth import (
    ApiKey,
    ApiKeyCredentials,
    Auth,
    Basic,
    BasicCredentials,
    Bearer,
    BearerCredentials,
    Direct,
    NoAuth,
    OAuth2,
    OAuth2Credentials,
)
from .context import Context, Patience, Rate
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
from .source import Items, Partition, Source, Traits

__all__ = [
    "ApiKey",
    "ApiKeyCredentials",
    "Auth",
    "AuthError",
    "Basic",
    "BasicCredentials",
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
    "OAuth2",
    "OAuth2Credentials",
    "Partition",
    "Patience",
    "Rate",
    "RateLimited",
    "Seen",
    "Skipped",
    "Source",
    "SourceError",
    "Stalled",
    "Stopped",
    "Traits",
    "Unavailable",
    "Unembeddable",
    "Unreadable",
    "Vectors",
    "is_private",
    "is_private_name",
]
