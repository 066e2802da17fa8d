# What the rules share: the command, the wildcards, and what the graph says of a job. Wildcards are its names.

# The interpreter that runs Snakemake: whatever `jepa3d` is first on PATH may be another version.
JEPA3D = shlex.join(
    [sys.executable, "-m", "jepa3d", "--params", PARAMS_FILE, "--results", RESULTS]
)
ON_CLUSTER = f" --cluster {shlex.quote(CLUSTER)}" if CLUSTER else ""


wildcard_constraints:
    dataset="[^/]+",
    source="[^/]+",
    scheme="[^/]+",
    run="[^/]+",
    evaluation="[^/]+",
    seed="[0-9]+",
    shard="[0-9]+",
    fold="[0-9]+",


def more(number):
    """A resource that doubles when a job has to be given again."""
    return lambda wildcards, attempt: number * 2 ** (attempt - 1)


def claim(workflow):
    """One Snakemake a folder; on Slurm, nothing of a killed one in the queue and nothing of the shell in its jobs."""
    try:
        leftover.claim(Path.cwd())
        if workflow.executor_plugin.name != "slurm":
            return
        if not CLUSTER:
            raise Problem(
                "--config: takes the place of the profile's, and says nothing about pretraining",
                "it would run on this machine",
                "add 'cluster=slurm/cluster.yaml' to it",
            )
        environment.clean()
        leftover.cancel_leftover(Path.cwd(), workflow.executor_settings.jobname_prefix)
    except Problem as problem:
        raise WorkflowError(str(problem))


def reads(verb):
    """A rule's input: what the graph says that the job reads."""
    return lambda wildcards: GRAPH.job(verb, *wildcards).reads


def settings(verb):
    """A rule's `params`: the job's slice of params.yaml, so that a changed number reruns exactly what it touches."""
    return lambda wildcards: GRAPH.job(verb, *wildcards).settings


def writes(verb, *names):
    return graph.writes(LAYOUT, verb, *names)


def every(verb):
    """The outputs of all jobs of a verb that the chosen study needs."""
    return [path for job in JOBS if job.verb == verb for path in job.writes]
