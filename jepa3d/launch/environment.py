"""The environment in which Slurm's commands are called: what the user's shell says about jobs does not count.

Every option of sbatch, srun, squeue and their like can be set by a variable of the shell (`SBATCH_PARTITION`,
`SQUEUE_USERS`; see INPUT ENVIRONMENT VARIABLES in the manual page of each), and most of them win over what a script
asks for, or hide jobs that run. So a job would go elsewhere than its cluster file says, and a running job would look
ended. A shell that is itself part of a job has further variables, which would give the new job the size of the old.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

# what a site needs so that the commands find and are let into its cluster
SITE = frozenset(
    {"SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT", "SLURM_SACK_KEY", "SLURM_SACK_SOCKET"}
)
SETTINGS = ("SBATCH_", "SALLOC_", "SRUN_", "SQUEUE_", "SINFO_", "SACCT_", "SCANCEL_", "SCONTROL_", "SLURM_", "PMI")
FIELDS = {  # of the cluster file, for what was asked for by a variable
    "SBATCH_PARTITION": "partition",
    "SBATCH_ACCOUNT": "account",
    "SBATCH_QOS": "qos",
    "SBATCH_CONSTRAINT": "constraint",
    "SBATCH_TIMELIMIT": "minutes",
}


def cleaned(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment (default: this process's) without the settings of Slurm's commands; SITE stays."""
    given = os.environ if environment is None else environment
    return {key: value for key, value in given.items() if key in SITE or not key.startswith(SETTINGS)}


def clean() -> None:
    """Take the settings of Slurm's commands out of this process's environment, for all that it starts.

    A variable that asked for something a cluster file can say is named on stderr, with the field to use.
    """
    for key in sorted(set(os.environ) - set(cleaned())):
        value = os.environ.pop(key)
        if key in FIELDS:
            say = f"'{FIELDS[key]}' of the cluster file, or the profile's default-resources"
            print(f"{key}={value} of this shell does not count; use {say}", file=sys.stderr, flush=True)
