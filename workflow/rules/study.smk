# Table 3: votes of people. Without a store of votes it says "no votes yet".


def votes_file(_):
    store = Path(f"results/{SCALE}/study/votes.sqlite")
    return [str(store)] if store.exists() else []


rule study_tally:
    input:
        votes_file,
    output:
        "results/{scale}/study/tally.json",
    log:
        "results/{scale}/study/tally.log",
    params:
        votes=lambda wildcards, input: f"--votes {input}" if input else "",
    shell:
        f"python -m artune study_tally {{params.votes}} --output {{output}} {SHARED}"


rule study_table:
    input:
        "results/{scale}/study/tally.json",
    output:
        csv="results/{scale}/tables/{table}.csv",
        markdown="results/{scale}/tables/{table}.md",
        latex="results/{scale}/tables/{table}.tex",
    log:
        "results/{scale}/tables/{table}.log",
    wildcard_constraints:
        table="|".join(STUDY_TABLES),
    params:
        layout=lambda wildcards: REGISTRY.tables[wildcards.table].model_dump(),
        runs=f"results/{SCALE}/runs",
    shell:
        "python -m artune table {wildcards.table} --runs {params.runs} --tally {input}"
        f" --output {{output.csv}} {SHARED}"
