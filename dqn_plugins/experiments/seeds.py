"""Where the seeds of evaluations begin: what is learned from and what is judged never share one."""

FIRST_EVALUATION_SEED = 1_000_000
FIRST_FINAL_EVALUATION_SEED = 2_000_000
