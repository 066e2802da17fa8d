# in:   every evaluation of the study, and what its pictures show
# out:  results/metrics.json, results/report/index.html, results/plots/


rule report:
    """Tables and pictures of the study."""
    input:
        evaluations=study_evaluations(),
        features=study_features(),
        curves=[LAYOUT.curve(run, seed) for run, seed in STUDY.trainings()],
        audits=[LAYOUT.audit(dataset) for dataset in study_datasets()],
        patches=[LAYOUT.patches(scheme, data) for scheme, data in study_patches()],
    output:
        metrics=LAYOUT.metrics,
        page=LAYOUT.report,
        card=LAYOUT.card,
        plots=directory(LAYOUT.plots),
    params:
        study=slice_of(STUDY),
    shell:
        "{JEPA3D} report"


rule all_report:
    input:
        rules.report.output,
