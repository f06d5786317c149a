#!/bin/sh
# The circle: chunk PPO trains a policy, its episodes are recorded and aligned into a dataset, a fresh policy learns from
# it, and another from the same rollouts as they are, with idle steps and failures; all play the same held-out starts.
# Needs vla-data[train]. SEED chooses another one; START a checkpoint instead of a new clone; PPO, EPISODES, UPDATES,
# STARTS and SOLVED other sizes, as PPO="total_timesteps=600 demos=9" EPISODES=20 UPDATES=5 STARTS=9 SOLVED=0.
set -eu
seed=${SEED:-0}
folder=${1:-circle}

train() {
  vla-train ppo --config laptop --set seed="$seed" --exp-name ppo --runs "$folder" "$@"
}
learn() {
  vla-train sft --set seed="$seed" --set updates="${UPDATES:-3000}" --set eval_episodes=0 --runs "$folder" "$@"
}
set -- ${START:+--start "$START"}
for pair in ${PPO:-}; do set -- "$@" --set "$pair"; done
train --set eval_episodes=0 "$@"
vla-train collect --checkpoint "$folder/ppo" --episodes "${EPISODES:-1000}" --seed "$seed" --no-images "$folder/rollouts"
vla-data align "$folder/rollouts" "$folder/aligned" --fps 20 --min-success-steps "${SOLVED:-1}" \
  --pos-thresh 0.002 --rot-thresh none
learn --exp-name aligned-sft --dataset "$folder/aligned"
learn --exp-name unaligned-sft --dataset "ppo_rollout:$folder/rollouts"
for temperature in 1 0; do
  for run in ppo aligned-sft unaligned-sft; do
    echo "$run, at temperature $temperature, on held-out starts:"
    vla-train eval --checkpoint "$folder/$run" --episodes "${STARTS:-240}" --temperature "$temperature" \
      --out "$folder/$run-$temperature.json"
  done
done
