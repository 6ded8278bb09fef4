"""The role that an API key needs for each route. The gate checks it before a body is received; a route that is missing
here needs ``admin``, and a test walks all routes."""

from collections.abc import Iterable, Mapping
from re import Pattern

from starlette.routing import BaseRoute, Match, compile_path
from starlette.types import Scope

from ..db.models import Role
from ..errors import Forbidden

ANY = "*"  # any method

# ``reader`` searches and reads, with POST where a search or a look has a body. ``editor`` decides what is synced, and
# where events go: an address of a receiver or its secret is no reader's business. ``admin`` decides what others may do,
# what is deleted for good on a person's word, and what holds for the whole organization.
NEEDED: Mapping[str, Role] = {
    f"{method} {path}": role
    for role, routes in {
        Role.READER: (
            ("GET", "/sources"),
            ("GET", "/sources/{short_name}"),
            ("GET", "/source-rate-limits"),
            ("GET", "/collections"),
            ("GET", "/collections/count"),
            ("GET", "/collections/{readable_id}"),
            ("GET", "/collections/{readable_id}/source-connections"),
            ("GET", "/collections/{readable_id}/reembed"),
            ("GET", "/collections/internal/filter-schema"),
            ("GET", "/collections/{readable_id}/search"),
            ("POST", "/collections/{readable_id}/search"),
            ("POST", "/collections/{readable_id}/search/stream"),
            ("POST", "/collections/{readable_id}/search/instant"),
            ("POST", "/collections/{readable_id}/search/classic"),
            ("POST", "/collections/{readable_id}/search/agentic"),
            ("POST", "/collections/{readable_id}/search/agentic/stream"),
            ("GET", "/source-connections"),
            ("GET", "/source-connections/{connection_id}"),
            ("GET", "/source-connections/{connection_id}/sync-id"),
            ("GET", "/source-connections/{connection_id}/jobs"),
            ("GET", "/source-connections/{connection_id}/jobs/{job_id}"),
            ("GET", "/source-connections/{connection_id}/entities"),
            ("GET", "/source-connections/{connection_id}/entities/text"),
            ("GET", "/source-connections/{connection_id}/held-deletes"),
            ("GET", "/entity-counts/syncs/{connection_id}/counts"),
            ("GET", "/entity-counts/syncs/{connection_id}/total-count"),
            ("GET", "/sync/job/{job_id}/subscribe"),
            ("GET", "/sync/job/{job_id}/subscribe-state"),
            ("GET", "/webhooks/messages"),
            ("GET", "/files"),
            ("GET", "/files/{rest:path}"),
            ("POST", "/files/batch-download"),
            ("GET", "/organizations"),
            ("GET", "/organizations/{organization_id}"),
            ("GET", "/users/me/organizations"),
            (ANY, "/mcp"),  # each of its tools passes the gate again, as the route that it calls
        ),
        Role.EDITOR: (
            ("POST", "/collections"),
            ("PATCH", "/collections/{readable_id}"),
            ("DELETE", "/collections/{readable_id}"),
            ("POST", "/collections/{readable_id}/refresh_all"),
            ("POST", "/source-connections"),
            ("POST", "/source-connections/preview"),
            ("PATCH", "/source-connections/{connection_id}"),
            ("DELETE", "/source-connections/{connection_id}"),
            ("POST", "/source-connections/{connection_id}/run"),
            ("POST", "/source-connections/{connection_id}/jobs/{job_id}/cancel"),
            ("POST", "/source-connections/{connection_id}/entities/retry"),
            ("GET", "/webhooks/messages/{message_id}"),  # its attempts name the addresses of receivers
            ("GET", "/webhooks/subscriptions"),
            ("POST", "/webhooks/subscriptions"),
            ("GET", "/webhooks/subscriptions/{subscription_id}"),
            ("PATCH", "/webhooks/subscriptions/{subscription_id}"),
            ("DELETE", "/webhooks/subscriptions/{subscription_id}"),
            ("POST", "/webhooks/subscriptions/{subscription_id}/recover"),
        ),
        Role.ADMIN: (
            ("POST", "/collections/{readable_id}/reembed"),
            ("DELETE", "/collections/{readable_id}/reembed"),
            ("POST", "/source-connections/{connection_id}/held-deletes/{plan_id}/approve"),
            ("POST", "/source-connections/{connection_id}/held-deletes/{plan_id}/dismiss"),
            ("PUT", "/source-rate-limits/{short_name}"),
            ("DELETE", "/source-rate-limits/{short_name}"),
            ("GET", "/api-keys"),
            ("POST", "/api-keys"),
            ("DELETE", "/api-keys"),
            ("GET", "/api-keys/{key_id}"),
        ),
    }.items()
    for method, path in routes
}


def _by_method() -> dict[str, list[tuple[Pattern[str], Role]]]:
    found: dict[str, list[tuple[Pattern[str], Role]]] = {}
    for route, role in NEEDED.items():
        method, _, path = route.partition(" ")
        found.setdefault(method, []).append((compile_path(path)[0], role))
    return found


_PATTERNS = _by_method()


def check(scope: Scope, role: Role) -> None:
    """Raise ``Forbidden`` if a key with this role may not send this request. What no route serves is let through, and
    answered as what does not exist."""
    if role == Role.ADMIN:
        return
    method, path = scope["method"], scope["path"]
    needed = _find(method, path)
    if needed is None and _is_served(scope["app"].routes, scope):
        needed = Role.ADMIN
    if needed is not None and not role.includes(needed):
        enough = " or ".join(each for each in Role if each.includes(needed))
        raise Forbidden(f"this API key has the role {role}; {method} {path} needs the role {enough}")


def _find(method: str, path: str) -> Role | None:
    """The role that the routes need which this request may reach. Of several, the highest: which of them serves it is
    for the router to decide."""
    same = "GET" if method == "HEAD" else method
    fitting = [role for each in (same, ANY) for pattern, role in _PATTERNS.get(each, ()) if pattern.match(path)]
    return max(fitting, key=list(Role).index, default=None)


def _is_served(routes: Iterable[BaseRoute], scope: Scope) -> bool:
    return any(route.matches({**scope})[0] == Match.FULL for route in routes)
