# What the harness needs in a Vault that is not its own. Each path is one that a run or `alertstorm clean` uses.
path "auth/token/lookup-self" { capabilities = ["read"] }

# Its mounts, auth methods and policies, and what is in them.
path "sys/mounts/alertstorm-*" { capabilities = ["create", "read", "update", "delete"] }
path "sys/auth/alertstorm-*" { capabilities = ["create", "read", "update", "delete", "sudo"] }
path "sys/policies/acl/alertstorm-*" { capabilities = ["create", "read", "update", "delete"] }
path "alertstorm-*" { capabilities = ["create", "read", "update", "list"] }
path "auth/alertstorm-*" { capabilities = ["create", "read", "update"] }

# The ledger: the leases of its own mounts, those that Vault gave up to revoke, and Vault's own counters.
path "sys/leases/lookup/alertstorm-*" { capabilities = ["list", "sudo"] }
path "sys/leases" { capabilities = ["read", "list", "sudo"] }
path "sys/metrics" { capabilities = ["read"] }
