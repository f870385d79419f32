# What stores, what keeps secrets, what watches, what it may cost.

# --- the database ---

variable "database" {
  description = "Where PostgreSQL runs: rds (native partitions: RDS has no timescaledb extension), timescale-ec2 (TimescaleDB on an instance of ours), or endpoint (somebody else's server, with TimescaleDB or without; see timescale_endpoint)."
  type        = string
  default     = "rds"

  validation {
    condition     = contains(["rds", "timescale-ec2", "endpoint"], var.database)
    error_message = "database is rds, timescale-ec2 or endpoint."
  }
}

variable "timescale_endpoint" {
  description = "With database = endpoint: host name, port and administrator of that server, who may make roles and databases, the secret's ARN that holds {\"password\": ...} of the administrator, and the PrivateLink service that leads there (null: it is reached by peering or the NAT)."
  type = object({
    host                 = string
    port                 = optional(number, 5432)
    user                 = optional(string, "tsdbadmin")
    password_secret_arn  = string
    private_link_service = optional(string)
  })
  default = null

  validation {
    condition     = var.timescale_endpoint == null || can(regex("^[a-z0-9.-]+$", var.timescale_endpoint.host))
    error_message = "timescale_endpoint.host is a host name without scheme or port."
  }
}

variable "database_public_ca" {
  description = "Whether the database's certificate is signed by an authority that every system trusts, as a service's often is; else the secret DATABASE_CA holds the authority's certificates."
  type        = bool
  default     = false
}

variable "database_engine_version" {
  description = "PostgreSQL's version on RDS: the major alone lets RDS choose the minor and upgrade it in the maintenance window."
  type        = string
  default     = "17"

  validation {
    condition     = can(regex("^17(\\.\\d+)?$", var.database_engine_version))
    error_message = "The parameter group is of PostgreSQL 17."
  }
}

variable "database_instance_class" {
  description = "RDS' instance class."
  type        = string
  default     = "db.t4g.medium"
}

variable "database_multi_az" {
  description = "Whether a standby in another zone takes over when the database's machine or zone fails. It doubles the database's price."
  type        = bool
  default     = true
}

variable "database_storage_gb" {
  description = "RDS' gp3 storage in GB to begin with. From 400 GB on RDS gives 12,000 IOPS and 500 MB/s instead of 3,000 and 125."
  type        = number
  default     = 100

  validation {
    condition     = var.database_storage_gb >= 20
    error_message = "gp3 begins at 20 GB."
  }
}

variable "database_max_storage_gb" {
  description = "Up to which size RDS enlarges the storage by itself. Storage never shrinks."
  type        = number
  default     = 1000
}

variable "database_backup_days" {
  description = "For how many days the database can be brought back to any second (RDS), or its nightly backups are kept (timescale-ec2)."
  type        = number
  default     = 14

  validation {
    condition     = var.database_backup_days >= 1 && var.database_backup_days <= 35
    error_message = "RDS keeps 1 to 35 days; 0 would switch point-in-time recovery off."
  }
}

variable "database_final_snapshot" {
  description = "Whether RDS leaves a last snapshot, and the automatic backups, when the database is deleted."
  type        = bool
  default     = true
}

variable "database_monitoring_interval_s" {
  description = "Seconds between RDS' reports of its operating system (0: none)."
  type        = number
  default     = 60

  validation {
    condition     = contains([0, 1, 5, 10, 15, 30, 60], var.database_monitoring_interval_s)
    error_message = "RDS takes 0, 1, 5, 10, 15, 30 or 60."
  }
}

variable "timescale_ec2" {
  description = "With database = timescale-ec2: instance type, AMI (null: Canonical's newest Ubuntu 24.04 for that processor), size, IOPS and MB/s of the data volume, how many of its daily snapshots are kept, and TimescaleDB's version (null: the newest when the instance is made; it then stays)."
  type = object({
    instance_type     = optional(string, "m7g.large")
    ami_id            = optional(string)
    volume_gb         = optional(number, 200)
    volume_iops       = optional(number, 3000)
    volume_mbps       = optional(number, 125)
    snapshots_kept    = optional(number, 14)
    timescale_version = optional(string)
  })
  default = {}
}

# --- Redis ---

variable "redis_engine" {
  description = "ElastiCache's engine: redis, which the tests run against, or valkey, a fifth cheaper."
  type        = string
  default     = "redis"

  validation {
    condition     = contains(["redis", "valkey"], var.redis_engine)
    error_message = "redis_engine is redis or valkey."
  }
}

variable "redis_node_type" {
  description = "ElastiCache's node type."
  type        = string
  default     = "cache.t4g.small"
}

variable "redis_nodes" {
  description = "Nodes: one, or one and its replicas in other zones, of which one takes over."
  type        = number
  default     = 2

  validation {
    condition     = var.redis_nodes >= 1 && var.redis_nodes <= 6
    error_message = "redis_nodes is 1 to 6."
  }
}

variable "redis_snapshot_days" {
  description = "Days that Redis' nightly snapshots are kept. 0, because what must last lies in PostgreSQL."
  type        = number
  default     = 0
}

variable "redis" {
  description = "Whether ElastiCache is made. False only where it is tried against moto, which fails to read a replication group."
  type        = bool
  default     = true
}

# --- files ---

variable "raw_infrequent_after_days" {
  description = "After how many days raw DBN moves to infrequent access; 0: never."
  type        = number
  default     = 30

  validation {
    condition     = var.raw_infrequent_after_days == 0 || var.raw_infrequent_after_days >= 30
    error_message = "S3 moves to infrequent access after 30 days at the earliest."
  }
}

variable "raw_glacier_after_days" {
  description = "After how many days raw DBN moves to Glacier Instant Retrieval; 0: never."
  type        = number
  default     = 120
}

variable "raw_expire_after_days" {
  description = "After how many days raw DBN is deleted; 0: never."
  type        = number
  default     = 0
}

variable "backups_expire_after_days" {
  description = "After how many days the database's logical backups are deleted; 0: never."
  type        = number
  default     = 90
}

variable "buckets_may_be_emptied" {
  description = "Whether destroying the environment deletes buckets that hold objects."
  type        = bool
  default     = false
}

variable "spool_throughput" {
  description = "EFS' throughput: elastic (paid by the GB moved) or bursting (by the size of what lies there, which for a spool is nearly nothing: for trying out only)."
  type        = string
  default     = "elastic"

  validation {
    condition     = contains(["elastic", "bursting"], var.spool_throughput)
    error_message = "spool_throughput is elastic or bursting."
  }
}

# --- secrets ---

variable "secrets_recovery_days" {
  description = "For how many days a deleted secret can be brought back; 0 deletes at once, so that an environment of that name can be made anew."
  type        = number
  default     = 7

  validation {
    condition     = var.secrets_recovery_days == 0 || (var.secrets_recovery_days >= 7 && var.secrets_recovery_days <= 30)
    error_message = "Secrets Manager takes 0, or 7 to 30."
  }
}

# --- watching ---

variable "log_retention_days" {
  description = "For how many days CloudWatch keeps logs."
  type        = number
  default     = 30

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827], var.log_retention_days)
    error_message = "CloudWatch takes 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096 or 1827."
  }
}

variable "alert_emails" {
  description = "Addresses that alarms and the budget write to; each must confirm once, by the mail that AWS sends."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for address in var.alert_emails : can(regex("^[^@\\s]+@[^@\\s]+$", address))])
    error_message = "alert_emails are e-mail addresses."
  }
}

variable "latency_alarm_s" {
  description = "The 99th percentile of the load balancer's answers, in seconds, above which an alarm goes off."
  type        = number
  default     = 2
}

variable "collector_alarm" {
  description = "Whether an alarm goes off when the collector has said nothing for a quarter of an hour. False where nothing is to be collected."
  type        = bool
  default     = true
}

variable "prometheus" {
  description = "Whether Prometheus and Alertmanager run as a task of their own, with the rules of monitoring/."
  type        = bool
  default     = true
}

variable "monitoring_images" {
  description = "The images of the monitoring task: from Docker Hub, or from a registry of yours that keeps copies."
  type = object({
    prometheus        = optional(string, "prom/prometheus:v2.53.3")
    alertmanager      = optional(string, "prom/alertmanager:v0.27.0")
    postgres_exporter = optional(string, "prometheuscommunity/postgres-exporter:v0.16.0")
    redis_exporter    = optional(string, "oliver006/redis_exporter:v1.67.0-alpine")
  })
  default = {}
}

variable "runbooks_url" {
  description = "Where docs/OPERATIONS_MANUAL.md is read, for the links of alerts."
  type        = string
  default     = "docs/OPERATIONS_MANUAL.md"
}

variable "prometheus_retention_days" {
  description = "For how many days Prometheus keeps its series."
  type        = number
  default     = 15
}

variable "monthly_budget_usd" {
  description = "What the account may cost a month, in dollars: mail and SNS at 50, 80 and 100 %, and when 100 % is forecast. 0: no budget."
  type        = number
  default     = 500
}
