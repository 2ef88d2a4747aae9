network:
  failures: {crash: 60%, oom: 70%}
  credentials:
    mid_run:
      - {probability: 20%}
database:
  conclusions: {resolved: 0}
