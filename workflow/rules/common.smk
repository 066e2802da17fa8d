# What the rules share: the command, the wildcards, and which files a study asks for.

JEPA3D = f"jepa3d --params {PARAMS_FILE} --results {RESULTS}"


wildcard_constraints:
    dataset="[^/]+",
    scheme="[^/]+",
    run="[^/]+",
    evaluation="[^/]+",
    seed="[0-9]+",


def entry(section, name):
    """A slice of params.yaml: a rule's `params`, so that a changed number reruns exactly what it touches."""
    return configuration.slice_of(PARAMS.pick(section, name))


def run_slice(wildcards):
    """All that a run depends on: its entry, its model and its patch scheme."""
    return configuration.run_slice(PARAMS, wildcards.run)


def run_inputs(wildcards):
    """The canonical clouds and the patches of every data set of a run, its probe's included."""
    run = PARAMS.pick("runs", wildcards.run)
    datasets = [*run.data, *([run.monitor.probe] if run.monitor.probe else [])]
    return [
        path
        for data in dict.fromkeys(datasets)
        for path in (LAYOUT.canonical(data), LAYOUT.patches(run.patches, data))
    ]


def patches_of_run(wildcards):
    return LAYOUT.patches(PARAMS.pick("runs", wildcards.run).patches, wildcards.dataset)


def study_datasets():
    """The data sets that the chosen study's runs and evaluations read."""
    of_runs = [data for run in STUDY.runs for data in PARAMS.pick("runs", run).data]
    of_evals = [PARAMS.pick("evals", name).dataset for name in STUDY.evals]
    return list(dict.fromkeys([*of_runs, *of_evals]))


def study_patches():
    """Every (scheme, data set) that the chosen study reads."""
    pairs = []
    for run in (PARAMS.pick("runs", name) for name in STUDY.runs):
        pairs += [(run.patches, data) for data in run.data]
        pairs += [
            (run.patches, PARAMS.pick("evals", name).dataset) for name in STUDY.evals
        ]
    return list(dict.fromkeys(pairs))


def study_features():
    """Every (run, data set, seed) whose features an evaluation of the chosen study reads."""
    datasets = [
        PARAMS.pick("evals", name).dataset
        for name in STUDY.evals
        if PARAMS.needs(name) == "features"
    ]
    return [
        LAYOUT.features(run, seed, data)
        for run in STUDY.runs
        for data in dict.fromkeys(datasets)
        for seed in STUDY.seeds
    ]


def study_evaluations():
    return [
        LAYOUT.evaluation(run, seed, name)
        for run in STUDY.runs
        for name in STUDY.evals
        for seed in STUDY.seeds
    ]
