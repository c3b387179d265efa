#!/bin/bash
# One array task for each share of a job:  JOB=/lustre/job sbatch --array=0-63 docs/territory/slurm.sh
# Near its time limit a task puts itself back into the queue; what it has done is kept.
#SBATCH --job-name=flair
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gres=gpu:1
#SBATCH --cpus-per-task=10
#SBATCH --hint=nomultithread
#SBATCH --time=02:00:00
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=flair-%A_%a.out
# Jean Zay: one V100 with 10 cores, the quarter of a node. For an A100 add -C a100 and take 8 cores.
set -u
: "${JOB:?is the folder of the job}"
if [ "$SLURM_ARRAY_TASK_MIN" != 0 ] || [ "$SLURM_ARRAY_TASK_MAX" != $((SLURM_ARRAY_TASK_COUNT - 1)) ]; then
    echo "give --array=0-N: shares are counted from 0; parts that are done are not made again" >&2
    exit 2
fi

worker=
again=
trap 'again=yes; [ -z "$worker" ] || kill -TERM "$worker" 2>/dev/null' USR1
flair-job part "$JOB" --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT" &
worker=$!
[ -z "$again" ] || kill -TERM "$worker" # the signal came before that was known

wait "$worker"
code=$?
while kill -0 "$worker" 2>/dev/null; do # the signal ended `wait`, not the worker
    wait "$worker"
    code=$?
done
if [ -n "$again" ] && [ "$code" != 0 ]; then
    exec scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"
fi
[ "$code" = 3 ] && code=0 # blocks were left out on request
exit "$code"
