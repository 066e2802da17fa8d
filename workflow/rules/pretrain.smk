# in:   canonical clouds and patches of the run's data
# out:  results/pretrain/{run}/seed{seed}/: encoder.safetensors, config.json, curve.jsonl


rule pretrain:
    """Train {wildcards.run} with seed {wildcards.seed}."""
    input:
        run_inputs,
    output:
        encoder=LAYOUT.encoder("{run}", "{seed}"),
        config=LAYOUT.run_config("{run}", "{seed}"),
        curve=LAYOUT.curve("{run}", "{seed}"),
    priority: 10  # the longest chain of the study: start it as soon as it can
    retries: 0  # a job that is lost goes on by itself; another failure would only come again
    threads: 1
    params:
        entry=run_slice,
    shell:
        "{JEPA3D} --threads {threads} pretrain {wildcards.run} --seed {wildcards.seed}{ON_CLUSTER}"


rule all_pretrain:
    input:
        [LAYOUT.encoder(run, seed) for run, seed in STUDY.trainings()],
