"""Croissant metadata: a dataset's description for machines.

https://docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from vla_data.core import Feature, Json
from vla_data.hub.facts import Facts
from vla_data.safety.text import show

FILE: Final = "croissant.json"
_CONTEXT: Final[Mapping[str, Json]] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
_ENDINGS: Final[Mapping[str, str]] = {
    ".parquet": "application/x-parquet",
    ".mp4": "video/mp4",
    ".json": "application/json",
    ".jsonl": "application/jsonlines",
    ".hdf5": "application/x-hdf5",
    ".tar": "application/x-tar",
}
_KINDS: Final = {"b": "sc:Boolean", "i": "sc:Integer", "u": "sc:Integer", "f": "sc:Float"}
_OTHER: Final = "application/octet-stream"


def croissant(
    facts: Facts, repo: str, license: str | None, *, url: str, files: Mapping[str, str], digest: str
) -> str:
    """The text of the description.

    Args:
        facts: of the dataset.
        repo: ``owner/name``.
        license: the identifier that its author gave; None: nobody has, and none is named.
        url: of the repository.
        files: path of every file -> its SHA-256.
        digest: SHA-256 that stands for the whole.
    """
    endings = sorted({_ending(path) for path in files})
    distribution: list[dict[str, Json]] = [
        {
            "@type": "cr:FileObject",
            "@id": "repo",
            "name": "repo",
            "description": "The repository; its digest is over the content of all episodes, as the manifest says.",
            "contentUrl": url,
            "encodingFormat": "git+https",
            "sha256": digest,
        },
        *(
            {
                "@type": "cr:FileSet",
                "@id": f"files{ending}",
                "name": f"files{ending}",
                "containedIn": {"@id": "repo"},
                "encodingFormat": _ENDINGS.get(ending, _OTHER),
                "includes": f"data/*/*{ending}" if _is_table(facts, ending) else f"**/*{ending}",
            }
            for ending in endings
        ),
    ]
    told: dict[str, Json] = {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": repo.rpartition("/")[2],
        "description": f"{facts.episodes:,} robot episodes, {facts.frames:,} frames at {facts.schema.fps:g} Hz.",
        "url": url,
        **({"license": license} if license else {}),
        "keywords": ["robotics", facts.format],
        "distribution": distribution,
    }
    if facts.format == "lerobot" and ".parquet" in endings:
        fields = [_field(name, feature) for name, feature in sorted(facts.schema.features.items())]
        told["recordSet"] = [
            {"@type": "cr:RecordSet", "@id": "frames", "name": "frames", "field": [one for one in fields if one]}
        ]
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def _is_table(facts: Facts, ending: str) -> bool:
    """Whether these are the tables that the record set is of."""
    return facts.format == "lerobot" and ending == ".parquet"


def _ending(path: str) -> str:
    name = path.rpartition("/")[2]
    return f".{name.rpartition('.')[2]}" if "." in name else name


def _field(name: str, feature: Feature) -> dict[str, Any] | None:
    """A column of numbers; images may lie in other files."""
    kind = {"bool": "b"}.get(feature.dtype, feature.dtype[:1])
    if kind not in _KINDS or feature.dtype == "image":
        return None
    many = feature.shape != (1,)
    return {
        "@type": "cr:Field",
        "@id": f"frames/{show(name)}",
        "name": f"frames/{show(name)}",
        "dataType": _KINDS[kind],
        **({"repeated": True} if many else {}),
        "source": {"fileSet": {"@id": "files.parquet"}, "extract": {"column": name}},
    }
