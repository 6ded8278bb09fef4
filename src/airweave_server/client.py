"""The command line's side of the HTTP API; every error is one line that says what to do next."""

from typing import Any, Self

import httpx

from .errors import ClientError
from .settings import Settings

TIMEOUT_S = 60.0
LATEST = 20


class Client:
    """Talks to a running server."""

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self.url = url
        headers = {"X-API-Key": api_key} if api_key else {}
        try:
            self._http = httpx.Client(base_url=url, headers=headers, timeout=TIMEOUT_S)
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            raise ClientError(f"API_URL={url} or API_KEY cannot be used: {error}") from None

    @classmethod
    def from_settings(cls, settings: Settings) -> Self:
        host = "127.0.0.1" if settings.api_host in ("0.0.0.0", "::") else settings.api_host
        url = settings.api_url or f"http://{f'[{host}]' if ':' in host else host}:{settings.api_port}"
        return cls(url.rstrip("/"), settings.api_key.get_secret_value() if settings.api_key else None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def get(self, path: str, **query: Any) -> Any:
        return self._call("GET", path, params={key: value for key, value in query.items() if value is not None})

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        return self._call("POST", path, json=body)

    def delete(self, path: str) -> Any:
        return self._call("DELETE", path)

    def ensure_collection(self, readable_id: str, *, language: str | None = None) -> None:
        """Make it if it is not there. ``language`` is fixed then: raises ``ClientError`` where it has another one."""
        found = self._http_call("GET", f"/collections/{readable_id}")
        if found.status_code == 404:
            name = readable_id if len(readable_id) >= 4 else f"Collection {readable_id}"
            spoken = {"language": language} if language else {}
            self.post("/collections", {"name": name[:64], "readable_id": readable_id, **spoken})
        elif language and found.is_success and (known := found.json()["language"]) != language:
            raise ClientError(f"collection {readable_id} is {known}, which is fixed: use another one for {language}")

    def connect_folder(self, collection: str, config: dict[str, Any], *, name: str) -> dict[str, Any]:
        made: dict[str, Any] = self.post("/source-connections", {**_folder(collection, config), "name": name})
        return made

    def preview_folder(self, collection: str, config: dict[str, Any]) -> dict[str, Any]:
        found: dict[str, Any] = self.post("/source-connections/preview", _folder(collection, config))
        return found

    def connections(self, collection: str | None) -> list[dict[str, Any]]:
        """All of them, page by page."""
        found: list[dict[str, Any]] = []
        while True:
            page = self.get("/source-connections", collection=collection, skip=len(found), limit=1_000)
            found += page
            if len(page) < 1_000:
                return found

    def jobs(self, connection_id: str, *, limit: int) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get(f"/source-connections/{connection_id}/jobs", limit=limit)
        return found

    def job(self, connection_id: str, job_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.get(f"/source-connections/{connection_id}/jobs/{job_id}")
        return found

    def last_full(self, connection_id: str) -> dict[str, Any] | None:
        """The last job, of the latest ones, that listed everything to its end."""
        for job in self.jobs(connection_id, limit=LATEST):
            if job["status"] == "completed" and job["mode"] == "full":
                return job
        return None

    def run(self, connection_id: str, *, full: bool = False) -> dict[str, Any]:
        started: dict[str, Any] = self.post(f"/source-connections/{connection_id}/run", {"force_full_sync": full})
        return started

    def run_or_join(self, connection_id: str, *, full: bool = False) -> dict[str, Any]:
        """Start a job, or take the one that is active already."""
        newest = next(iter(self.jobs(connection_id, limit=1)), None)
        if newest is not None and newest["status"] in ("pending", "running", "cancelling"):
            return newest
        return self.run(connection_id, full=full)

    def search(self, collection: str, query: str, *, limit: int) -> list[dict[str, Any]]:
        answer = self.post(f"/collections/{collection}/search/instant", {"query": query, "limit": limit})
        hits: list[dict[str, Any]] = answer["results"]
        return hits

    def _call(self, method: str, path: str, **request: Any) -> Any:
        answer = self._http_call(method, path, **request)
        if not answer.is_success:
            raise ClientError(f"{method} {self.url}{path}: {_said(answer)}")
        try:
            return answer.json()
        except ValueError:
            raise ClientError(f"what answers at {self.url} is no Airweave server; set API_URL") from None

    def _http_call(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **request)
        except httpx.HTTPError as error:
            reason = str(error) or type(error).__name__
            raise ClientError(
                f"no server answers at {self.url} ({reason}); start one with: airweave-server up"
            ) from None


def _folder(collection: str, config: dict[str, Any]) -> dict[str, Any]:
    return {
        "short_name": "folder",
        "readable_collection_id": collection,
        "config": config,
        "sync_immediately": False,
    }


def _said(answer: httpx.Response) -> str:
    try:
        body = answer.json()
    except ValueError:
        return f"{answer.status_code} {answer.reason_phrase}"
    if not isinstance(body, dict) or not body.keys() & {"errors", "detail"}:
        return f"{answer.status_code} {answer.reason_phrase}"
    if errors := body.get("errors"):
        return "; ".join(f"{place}: {text}" for part in errors for place, text in part.items())
    return str(body["detail"])
