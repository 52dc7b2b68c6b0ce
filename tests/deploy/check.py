"""Judges manifests: YAML documents on stdin, versions of Kubernetes as arguments, the folder of our kinds first.

Prints {"problems": [...], "documents": [...]} as JSON. Kubernetes' own kinds are judged by Kubernetes' schemas (strict: an unknown
field is a problem), our kinds by the CustomResourceDefinitions in deploy/crds with every object closed, kinds of others by
foreign.yaml. Called by tests/deploy.rs.
"""
import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

FOREIGN = pathlib.Path(__file__).with_name("foreign.yaml")
# Of a schema in a CustomResourceDefinition; Kubernetes refuses these there.
FORBIDDEN = {"$ref", "$schema", "id", "definitions", "dependencies", "deprecated", "patternProperties", "uniqueItems"}
COLUMN_TYPES = {"integer", "number", "string", "boolean", "date"}


class Loader(yaml.SafeLoader):
    """Refuses a key that is there twice, as Kubernetes does, and leaves dates text."""


def mapping(loader, node):
    loader.flatten_mapping(node)
    pairs = [(loader.construct_object(key), value) for key, value in node.value]
    keys = [key for key, _ in pairs]
    twice = {key for key in keys if keys.count(key) > 1}
    if twice:
        raise yaml.YAMLError(f"{node.start_mark}: twice: {sorted(map(str, twice))}")
    return {key: loader.construct_object(value, deep=True) for key, value in pairs}


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in Loader.yaml_implicit_resolvers.items()
}


def closed(schema):
    """The same with no room for what it does not name."""
    schema = dict(schema)
    schema.pop("x-kubernetes-preserve-unknown-fields", None)
    # Without `properties` any content is meant.
    if "properties" in schema:
        schema["properties"] = {name: closed(inner) for name, inner in schema["properties"].items()}
        schema["additionalProperties"] = False
    elif isinstance(schema.get("additionalProperties"), dict):
        schema["additionalProperties"] = closed(schema["additionalProperties"])
    if "items" in schema:
        schema["items"] = closed(schema["items"])
    return schema


def structural(schema, path):
    """What Kubernetes asks of a schema beyond its shape."""
    if not isinstance(schema, dict):
        yield f"{path}: not a schema"
        return
    for name in FORBIDDEN & schema.keys():
        yield f"{path}: {name} is not allowed"
    if "type" not in schema and not schema.get("x-kubernetes-int-or-string"):
        yield f"{path}: no type"
    if "properties" in schema and "additionalProperties" in schema:
        yield f"{path}: properties and additionalProperties exclude each other"
    if schema.get("type") == "array" and "items" not in schema:
        yield f"{path}: an array without items"
    if schema.get("x-kubernetes-list-type") == "map":
        item = schema.get("items", {})
        for key in schema.get("x-kubernetes-list-map-keys") or [None]:
            if key not in item.get("required", []):
                yield f"{path}: the key {key} of the list is not required"
    for name in schema.get("required", []):
        if name not in schema.get("properties", {}):
            yield f"{path}: {name} is required and has no schema"
    for name, inner in schema.get("properties", {}).items():
        yield from structural(inner, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if name in schema:
            yield from structural(schema[name], f"{path}.{name}")


def definition(document):
    spec = document["spec"]
    names, versions = spec["names"], spec["versions"]
    if document["metadata"]["name"] != f'{names["plural"]}.{spec["group"]}':
        yield "its name is not plural.group"
    if sum(version["storage"] for version in versions) != 1:
        yield "not exactly one version is stored"
    for version in versions:
        schema = version["schema"]["openAPIV3Schema"]
        yield from structural(schema, version["name"])
        if schema["properties"].get("metadata") != {"type": "object"}:
            yield f'{version["name"]}: metadata is Kubernetes\' own'
        for column in version.get("additionalPrinterColumns", []):
            if column["type"] not in COLUMN_TYPES or not column["jsonPath"].startswith("."):
                yield f'{version["name"]}: column {column["name"]}'


def by_schema(document, validator):
    for error in validator.iter_errors(document):
        yield f'{"/".join(map(str, error.path))}: {error.message}'


class Validators(dict):
    """Of our kinds, by API version and kind: each is closed once, however many documents there are of it."""

    def __init__(self, ours):
        super().__init__()
        self.ours = ours

    def __missing__(self, key):
        schema = closed(self.ours[key])
        # Kubernetes adds what it knows of metadata itself.
        schema["properties"]["metadata"] = {"type": "object", "required": ["name"]}
        self[key] = jsonschema.Draft202012Validator(schema)
        return self[key]


def judge(document, ours, foreign, versions):
    kind, api = document.get("kind"), document.get("apiVersion")
    if not kind or not api:
        yield "no kind or no apiVersion"
    elif (api, kind) in ours.ours:
        yield from by_schema(document, ours[api, kind])
    elif f"{api} {kind}" in foreign:
        yield from by_schema(document, jsonschema.Draft202012Validator(closed(foreign[f"{api} {kind}"])))
    else:
        for version in versions:
            try:
                kubernetes_validate.validate(document, version, strict=True)
            except kubernetes_validate.ValidationError as error:
                yield f'{version}: {"/".join(map(str, error.path))}: {error.message}'
            except kubernetes_validate.SchemaNotFoundError as error:
                yield f"{version}: {error.message}"
    if kind == "CustomResourceDefinition":
        yield from definition(document)


def main():
    folder, *versions = sys.argv[1:]
    ours = {}
    for path in pathlib.Path(folder).glob("*s.yaml"):
        spec = yaml.load(path.read_text(), Loader)["spec"]
        for version in spec["versions"]:
            api = f'{spec["group"]}/{version["name"]}'
            ours[api, spec["names"]["kind"]] = version["schema"]["openAPIV3Schema"]
    ours = Validators(ours)
    foreign = yaml.load(FOREIGN.read_text(), Loader)
    versions = [kubernetes_validate.latest_version() if version == "latest" else version for version in versions]
    documents = [document for document in yaml.load_all(sys.stdin, Loader) if document is not None]
    problems, seen = [], set()
    for document in documents:
        metadata = document.get("metadata", {})
        name = f'{document.get("kind")}/{metadata.get("namespace", "")}/{metadata.get("name")}'
        problems += [f"{name}: {problem}" for problem in judge(document, ours, foreign, versions)]
        if name in seen:
            problems.append(f"{name}: is there twice")
        seen.add(name)
    json.dump({"problems": problems, "documents": documents}, sys.stdout)


main()
