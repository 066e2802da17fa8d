# What the rules share: the command, the wildcards, and which files a study asks for.

JEPA3D = f"jepa3d --params {PARAMS_FILE} --results {RESULTS}"
ON_CLUSTER = f" --cluster {CLUSTER}" if CLUSTER else ""


wildcard_constraints:
    dataset="[^/]+",
    scheme="[^/]+",
    run="[^/]+",
    evaluation="[^/]+",
    seed="[0-9]+",
    part="[0-9]+",


def more(number):
    """A resource that doubles when a job has to be given again."""
    return lambda wildcards, attempt: number * 2 ** (attempt - 1)


def claim_cluster(workflow):
    """On Slurm: one Snakemake a folder, and nothing of a killed one in the queue."""
    if workflow.executor_plugin.name != "slurm":
        return
    try:
        if not CLUSTER:
            raise Problem(
                "--config: takes the place of the profile's, and says nothing about pretraining",
                "it would run on this machine",
                "add 'cluster=slurm/cluster.yaml' to it",
            )
        leftover.claim(Path.cwd())
        leftover.cancel_leftover(Path.cwd(), workflow.executor_settings.jobname_prefix)
    except Problem as problem:
        raise WorkflowError(str(problem))


def entry(section, name):
    """A slice of params.yaml: a rule's `params`, so that a changed number reruns exactly what it touches."""
    return slice_of(PARAMS.pick(section, name))


def run_slice(wildcards):
    """All that a run depends on: its entry, its model and its patch scheme."""
    return slice_of_run(PARAMS, wildcards.run)


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
    of_runs = [
        data for run in STUDY.run_names() for data in PARAMS.pick("runs", run).data
    ]
    of_evals = [PARAMS.pick("evals", name).dataset for name in STUDY.eval_names()]
    return list(dict.fromkeys([*of_runs, *of_evals]))


def study_patches():
    """Every (scheme, data set) that the chosen study reads."""
    of_runs = [
        (PARAMS.pick("runs", run).patches, data)
        for run in STUDY.run_names()
        for data in PARAMS.pick("runs", run).data
    ]
    of_evals = [
        (
            evaluation.patches or PARAMS.pick("runs", cell.run).patches,
            evaluation.dataset,
        )
        for cell in STUDY.cells()
        for evaluation in [PARAMS.pick("evals", cell.evaluation)]
    ]
    return list(dict.fromkeys([*of_runs, *of_evals]))


def study_features():
    """The features that the chosen study's evaluations read."""
    return list(
        dict.fromkeys(
            LAYOUT.features(cell.run, cell.seed, PARAMS.evals[cell.evaluation].dataset)
            for cell in STUDY.cells()
            if PARAMS.evaluation(cell.evaluation).needs == "features"
        )
    )


def study_evaluations():
    return [
        LAYOUT.evaluation(cell.run, cell.seed, cell.evaluation)
        for cell in STUDY.cells()
    ]
