from snakemake.utils import min_version

min_version("9.0")


configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/records.smk"
include: "workflow/rules/inputs.smk"
include: "workflow/rules/pretrained.smk"
include: "workflow/rules/tuning.smk"
include: "workflow/rules/evaluation.smk"
include: "workflow/rules/results.smk"
include: "workflow/rules/differences.smk"
include: "workflow/rules/study.smk"
include: "workflow/rules/report.smk"


localrules:  # they take seconds or need the internet; on a cluster they run on the machine that runs Snakemake
    main,
    tables,
    extra_tables,
    figures,
    asset,
    assets,
    run_config,
    mlflow_store,
    mlflow_log,
    mlflow,
    table,
    seed_differences,
    study_tally,
    study_table,
    costs,
    publish_costs,
    publish_table,
    publish_figure,
    claims,
    rulegraph,
    report,
    report_so_far,


rule main:
    default_target: True
    input:
        "results/table4.csv",
        "results/figure2.pdf",
        "results/figure5.pdf",


rule tables:
    input:
        expand("results/{table}.csv", table=PAPER_TABLES),


rule extra_tables:  # tables beyond the paper, which need further trainings
    input:
        expand("results/{table}.csv", table=EXTRA_TABLES),


rule figures:
    input:
        expand("results/{figure}.pdf", figure=PLAN.figures),
