#!/bin/sh
# A first learning run: a scripted expert's episodes are recorded, aligned into a dataset, and a policy that knows nothing
# learns from it. Before and after it plays the same held-out starts. Needs vla-data[train].
# SEED chooses another run; EPISODES, UPDATES and STARTS other sizes.
set -eu
seed=${SEED:-0}
folder=${1:-first}

vla-train collect --expert --episodes "${EPISODES:-300}" --seed "$seed" --no-images "$folder/rollouts"
vla-data align "$folder/rollouts" "$folder/aligned" --fps 20 --min-success-steps 1 --pos-thresh 0.002 --rot-thresh none
learn() {
  vla-train sft --dataset "$folder/aligned" --set seed="$seed" --set eval_episodes=0 --runs "$folder" "$@"
}
learn --exp-name random --set updates=0
learn --exp-name learnt --set updates="${UPDATES:-1500}"
for policy in random learnt; do
  echo "$policy, on held-out starts:"
  vla-train eval --checkpoint "$folder/$policy" --episodes "${STARTS:-240}"
done
