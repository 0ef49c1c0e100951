"""Compares YAML blocks of a page with the models of kubeflow_trainer_api, strictly; see check-manifests."""
import importlib.metadata, re, sys, typing
import kubeflow_trainer_api.models as models
import pydantic, yaml

KINDS = {
    ("jobset.x-k8s.io/v1alpha2", "JobSet"): models.JobsetV1alpha2JobSet,
    ("trainer.kubeflow.org/v1alpha1", "TrainJob"): models.TrainerV1alpha1TrainJob,
}


def model_in(annotation):
    """The model that a field holds, alone, in a list or as values of a map; None for plain values."""
    if isinstance(annotation, type) and issubclass(annotation, pydantic.BaseModel):
        return annotation
    found = [model_in(argument) for argument in typing.get_args(annotation)]
    return next((model for model in found if model), None)


def unknown_keys(value, model, path):
    """Keys that the model, which ignores what it does not know, would leave out."""
    if isinstance(value, list):
        for index, element in enumerate(value):
            yield from unknown_keys(element, model, f"{path}[{index}]")
    if not isinstance(value, dict):
        return
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    for key, inner in value.items():
        if key not in fields:
            yield f"{path}.{key} is none of {', '.join(sorted(fields))}"
            continue
        deeper = model_in(fields[key].annotation)
        # A map of any keys has quantities and such, which have no keys of their own.
        if deeper and "Dict[" not in str(fields[key].annotation):
            yield from unknown_keys(inner, deeper, f"{path}.{key}")


def problems(document):
    kind = (document.get("apiVersion"), document.get("kind"))
    if kind not in KINDS:
        yield f"found {kind}, expected one of {list(KINDS)}"
        return
    yield from unknown_keys(document, KINDS[kind], kind[1])
    try:
        KINDS[kind].from_dict(document)
    except pydantic.ValidationError as error:
        yield f"{kind[1]}: {error}"


def main(page):
    text = open(page).read()
    documents = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.S)]
    if not documents:
        sys.exit(f"{page} has no manifest")
    found = [problem for document in documents for problem in problems(document)]
    for problem in found:
        print(f"{page}: {problem}", file=sys.stderr)
    if found:
        sys.exit(1)
    version = importlib.metadata.version("kubeflow-trainer-api")
    print(f"{page}: {', '.join(document['kind'] for document in documents)} agree with kubeflow-trainer-api {version}")


main(sys.argv[1])
