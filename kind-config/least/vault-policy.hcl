# What the harness needs in a Vault that is not its own. Each path is one that a run or `alertstorm clean` uses.
path "auth/token/lookup-self" { capabilities = ["read"] }

# Its mounts, auth methods and policies, and what is in them.
path "sys/mounts/alertstorm-*" { capabilities = ["read", "update", "delete"] }
path "sys/auth/alertstorm-*" { capabilities = ["read", "update", "delete", "sudo"] }
path "sys/policies/acl/alertstorm-*" { capabilities = ["read", "update", "delete"] }
path "alertstorm-*" { capabilities = ["create", "update", "list"] }
path "auth/alertstorm-*" { capabilities = ["create", "read", "update"] }

# The ledger: the leases of its own mounts and the tokens of its own auth methods, the leases that Vault gave up
# to revoke, and Vault's own counters. A token is looked up and revoked by its accessor, which only its agent reports.
path "sys/leases/lookup/alertstorm-*" { capabilities = ["list", "sudo"] }
path "sys/leases/lookup/auth/alertstorm-*" { capabilities = ["list", "sudo"] }
path "auth/token/lookup-accessor" { capabilities = ["update"] }
path "auth/token/revoke-accessor" { capabilities = ["update"] }
path "sys/leases" { capabilities = ["read", "sudo"] }
path "sys/metrics" { capabilities = ["read"] }
