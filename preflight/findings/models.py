"""PF126 to PF150: what is not known of a launch's model, and what the answer then rests on."""

from __future__ import annotations

from preflight.findings.kind import FindingKind

OF_MODELS: dict[str, FindingKind] = {
    "PF126": FindingKind(
        name="towers-not-counted",
        severity="warning",
        proof_kind="reading",
        trigger="a model with an audio tower, or a vision tower that nobody traced, in a launch that may train on images or audio; rows with images whose length is not that at which rows are cut",
        effect="what the tower keeps for its backward is not in the estimate, so `fits` cannot be said",
        fix="nothing where the rows are text alone: the launch takes what is counted",
        proof=(
            "tests/launchers/test_towers.py::test_a_tower_that_nobody_traced_is_unknown_and_says_why",
        ),
    ),
    "PF127": FindingKind(
        name="targets-of-other-names",
        severity="warning",
        proof_kind="reading",
        trigger="target modules of which none is known, on a model that is read with another one's shapes or has code of its own",
        effect="the adapter is not in the estimate; `fits` is said only where it fits with one on every linear layer",
        fix="--set adapter.targets=all-linear counts one on every linear layer",
        proof=(
            "tests/launchers/test_towers.py::test_an_adapter_on_modules_of_other_names_fits_where_one_on_every_matrix_does",
        ),
    ),
    "PF129": FindingKind(
        name="layers-not-traced",
        severity="warning",
        proof_kind="reading",
        trigger="a way of training that the layers of this model type were not traced with, or layers that run in a package's kernels where it is installed",
        effect="what they keep and need in passing is a guess, or too much: the verdict does not rest on it",
        fix="`preflight trace` runs the model itself",
        proof=(
            "tests/models/test_family_tables.py::test_a_way_of_training_that_was_not_traced_is_unknown",
        ),
    ),
    "PF150": FindingKind(
        name="model-by-folder-name",
        severity="warning",
        proof_kind="reading",
        trigger="a model in a folder that is not here, whose last part is the public name of one model",
        effect="its sizes are those of that model, and nothing is refused for them: the folder may hold another",
        fix="--set model=NAME, or --set model_config=FILE",
        proof=(
            "tests/models/test_folder_names.py::test_a_folder_is_read_by_its_name_and_refuses_nothing",
        ),
    ),
}
