"""Pods as targets: the Kubernetes API is asked for a list, as a service account in the cluster may.

A list every half minute is enough for scraping; no watch is kept open. The API's own client library brings forty
megabytes for this one request.

Source: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/pod-v1/ (read 2026-11-21).
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from collector.addresses import bracketed
from collector.errors import RetryableError
from collector.scrape_config import KubernetesTargets
from collector.targets import Found, sorted_labels

ASK_SECONDS = 10.0
PAGE_PODS = 500
PAGES_LIMIT = 1000
PORT_NAMES = ("metrics", "http-metrics", "prometheus")


@dataclass(slots=True)
class KubernetesPods:
    """The pods of one cluster."""

    config: KubernetesTargets

    async def find(self) -> list[Found]:
        """Return the pods that are to be read now.

        Raises:
            RetryableError: the API does not answer, or does not let us.
        """
        try:
            token = self.config.token_file.read_text().strip() if self.config.token_file else ""
            headers = {"Accept": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
            async with httpx.AsyncClient(
                base_url=self.config.api_url,
                headers=headers,
                timeout=ASK_SECONDS,
                verify=verification(self.config.ca_file),
            ) as client:
                pods = [pod for path in self._paths() for pod in await list_all(client, path, self._query())]
        except (OSError, httpx.HTTPError, ValueError, KeyError) as error:
            raise RetryableError(f"{self.config.api_url} does not tell its pods: {error}") from error
        return [found for pod in pods if (found := found_in(pod, self.config)) is not None]

    def _paths(self) -> list[str]:
        return [f"/api/v1/namespaces/{name}/pods" for name in self.config.namespaces] or ["/api/v1/pods"]

    def _query(self) -> dict[str, str]:
        query = {"fieldSelector": "status.phase=Running", "limit": str(PAGE_PODS)}
        return {**query, "labelSelector": self.config.label_selector} if self.config.label_selector else query


async def list_all(client: httpx.AsyncClient, path: str, query: Mapping[str, str]) -> list[dict[str, Any]]:
    """Read a list page by page."""
    pods: list[dict[str, Any]] = []
    following = ""
    for _ in range(PAGES_LIMIT):
        answer = await client.get(path, params={**query, **({"continue": following} if following else {})})
        answer.raise_for_status()
        tree = answer.json()
        pods += tree["items"]
        following = (tree.get("metadata") or {}).get("continue") or ""
        if not following:
            break
    return pods


def verification(ca_file: Path | None) -> ssl.SSLContext | bool:
    """Return how the API's certificate is checked."""
    return ssl.create_default_context(cafile=str(ca_file)) if ca_file is not None and ca_file.exists() else True


def found_in(pod: Mapping[str, Any], config: KubernetesTargets) -> Found | None:
    """Return the target that a pod is; None where it is none, has no address yet, or is going."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    annotations = metadata.get("annotations") or {}
    said = {key: annotations.get(f"{config.annotation_prefix}/{key}") for key in ("scrape", "port", "path", "scheme")}
    wanted = said["scrape"] == "true" or (not config.need_annotation and said["scrape"] != "false")
    port = said["port"] or port_of((pod.get("spec") or {}).get("containers") or ())
    address = status.get("podIP")
    if not wanted or not address or not port or metadata.get("deletionTimestamp") or not str(port).isdecimal():
        return None
    own = metadata.get("labels") or {}
    labels = {
        "namespace": metadata.get("namespace", ""),
        "pod": metadata["name"],
        "node": (pod.get("spec") or {}).get("nodeName") or "",
        "replica": metadata["name"],
        **{name: own.get(source, "") for name, source in config.labels_from.items()},
    }
    return Found(f"{bracketed(address)}:{port}", sorted_labels(labels), said["scheme"], said["path"])


def port_of(containers: Iterable[Mapping[str, Any]]) -> str | None:
    """Return the port that is named for metrics, else the first."""
    ports = [port for container in containers for port in container.get("ports") or ()]
    named = [port for port in ports if port.get("name") in PORT_NAMES]
    chosen = (named or ports)[:1]
    return str(chosen[0]["containerPort"]) if chosen else None
