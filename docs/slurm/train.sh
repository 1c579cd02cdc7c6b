#!/bin/bash
#SBATCH --job-name=noref
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@300
#
# sbatch train.sh jssl data.target.path=scans data.proxy.path=others output=runs/mine
#
# Trains over as many time limits and preemptions as it takes: warned by SLURM, the training saves at the end of
# its step, and the job queues again and goes on. Five minutes before the end must be longer than a step and
# than writing a checkpoint take. One task a GPU, all of which must see all GPUs of their node.

stopped=no
forward() {
    stopped=yes
    # srun hands this on to the tasks; on SIGTERM it would kill them.
    kill -USR1 "$step"
}
trap forward USR1 TERM

MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

# The first task writes the checkpoint after the others have ended: they must not be killed for that.
srun --kill-on-bad-exit=0 bash -c '
    export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS
    exec noref train "$@" --resume' noref "$@" &
step=$!
# A signal ends the waiting, not the step.
while kill -0 "$step" 2>/dev/null; do
    wait "$step"
done
wait "$step"
code=$?

# 130: the tasks were warned by themselves, as by scancel --signal=USR1.
if [[ $code -eq 130 || ($stopped == yes && $code -ne 0) ]]; then
    exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
