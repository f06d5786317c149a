#!/bin/sh
# The circle: chunk PPO records its episodes, they are aligned into a dataset, a fresh policy learns from it, and from the
# same rollouts as they are, and all are measured on the same held-out starts. Needs vla-data[train]; SEED chooses another.
set -eu
seed=${SEED:-0}
folder=${1:-circle}

vla-train ppo --config laptop --set seed="$seed" --exp-name ppo --runs "$folder" --record "$folder/rollouts"
vla-data align "$folder/rollouts" "$folder/aligned" --fps 20 --min-success-steps 1 --pos-thresh 0.002 --rot-thresh none
vla-train sft --dataset "$folder/aligned" --set seed="$seed" --exp-name aligned-sft --runs "$folder"
vla-train sft --dataset "ppo_rollout:$folder/rollouts" --set seed="$seed" --exp-name unaligned-sft --runs "$folder"
for run in ppo aligned-sft unaligned-sft; do
  echo "$run"
  vla-train eval --checkpoint "$folder/$run" --episodes 240
done
