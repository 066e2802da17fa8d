# in:   every evaluation of the chosen study, and what its pictures show
# out:  results/studies/{study}/, and the same as results/metrics.json, results/report/, results/plots/


rule report:
    """Tables and pictures of the study."""
    input:
        REPORT.reads,
    output:
        [directory(path) if path.name == "plots" else path for path in REPORT.writes],
    log:
        LAYOUT.log("report", STUDY),
    benchmark:
        LAYOUT.benchmark("report", STUDY)
    params:
        settings=REPORT.settings,
    shell:
        "{JEPA3D} --log {log:q} --study {STUDY} report"


rule all_report:
    input:
        rules.report.output,
