network:
  hypotheses: many
  tools: {lllm: {calls: 3}}
  failures: {crash: 60%, oom: 70}
