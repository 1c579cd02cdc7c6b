#!/bin/bash
#SBATCH --job-name=noref-prepare
#SBATCH --array=0-7
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#
# sbatch prepare.sh scans -o prepared holdout=0.07
#
# Eight tasks on any machines, each of which prepares its share of the volumes, a process a core, into one folder that
# all of them see. The last to end makes it whole. A task that was killed is queued again, or started again by hand, and
# goes on with what is missing; so does `noref prepare scans -o prepared holdout=0.07` on one machine.

export OMP_NUM_THREADS=1
exec noref prepare "$@" --jobs "${SLURM_CPUS_PER_TASK:-1}"
