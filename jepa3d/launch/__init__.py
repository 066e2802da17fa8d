"""Where a training runs when it is submitted: `--launch local|slurm` of `jepa3d pretrain` and `jepa3d evaluate`.

    trainings  what can be submitted, and what it depends on
    launcher   finds the job of a training, or has it submitted, and follows it to its end
    submit     writes the job and hands it to Slurm or to this machine, by submitit
    job        what each rank of the job does, and the folder in which everything about it lies
    follow     prints what rank 0 says, and explains how the job ended
    queues     what Slurm, or this machine, knows about a job

The launcher is a mere onlooker: it ends with the job's exit code, but when it is killed the job goes on, and the same
command finds it again. `jepa3d cancel` ends a job. How many ranks, and where: `cluster`. What they do together:
`ranks`.
"""
