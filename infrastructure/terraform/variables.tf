# --- what this is, and where ---

variable "project" {
  description = "The first part of every name."
  type        = string
  default     = "ots"

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,9}$", var.project))
    error_message = "project is 2 to 10 lower-case letters and digits, a letter first: load balancers' names end at 32 characters."
  }
}

variable "environment" {
  description = "The second part of every name: one platform each, beside others in the same account."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{1,11}$", var.environment))
    error_message = "environment is 2 to 12 lower-case letters and digits, a letter first."
  }
}

variable "region" {
  description = "The region of everything. us-east-1 is nearest to Databento's gateways."
  type        = string
  default     = "us-east-1"
}

variable "allowed_account_ids" {
  description = "Accounts that this may be applied to; null: whichever the credentials belong to."
  type        = list(string)
  default     = null

  validation {
    condition     = alltrue([for id in coalesce(var.allowed_account_ids, []) : can(regex("^[0-9]{12}$", id))])
    error_message = "An account's id is 12 digits."
  }
}

variable "tags" {
  description = "Tags of everything, beside Project, Environment and ManagedBy."
  type        = map(string)
  default     = {}
}

variable "deletion_protection" {
  description = "Whether load balancer and database refuse to be deleted, the database leaves a final snapshot, and images keep their repositories from it. deploy-prod.sh destroy turns it off first."
  type        = bool
  default     = true
}

# --- the network ---

variable "availability_zones" {
  description = "The zones, two to four of the region's."
  type        = list(string)
  default     = ["us-east-1a", "us-east-1b"]

  validation {
    condition = (
      length(var.availability_zones) >= 2 && length(var.availability_zones) <= 4
      && length(distinct(var.availability_zones)) == length(var.availability_zones)
      && alltrue([for zone in var.availability_zones : startswith(zone, var.region)])
    )
    error_message = "Two to four different zones of var.region: the load balancer, and a database with a standby, want two at least."
  }
}

variable "vpc_cidr" {
  description = "The network's addresses, a /16. It must not overlap with what it is to be peered with."
  type        = string
  default     = "10.40.0.0/16"

  validation {
    condition     = can(cidrnetmask(var.vpc_cidr)) && endswith(var.vpc_cidr, "/16")
    error_message = "vpc_cidr is an IPv4 /16, such as 10.40.0.0/16."
  }
}

variable "nat_per_zone" {
  description = "A NAT gateway in each zone. With one in all, its zone's failure cuts the collector from the vendor until the zone is back; the gap is then repaired from history."
  type        = bool
  default     = true
}

variable "interface_endpoints" {
  description = "Endpoints of ECR, CloudWatch Logs and Secrets Manager in the network. Without them that traffic goes through NAT, which is cheaper up to some hundred GB a month, and needs NAT to start a task."
  type        = bool
  default     = true
}

variable "flow_logs" {
  description = "Which traffic the flow log keeps: REJECT, or ALL, which costs by the GB."
  type        = string
  default     = "REJECT"

  validation {
    condition     = contains(["REJECT", "ACCEPT", "ALL"], var.flow_logs)
    error_message = "flow_logs is REJECT, ACCEPT or ALL."
  }
}

# --- the edge ---

variable "domain_name" {
  description = "The name that clients use, such as ots.example.com. The load balancer answers to no other."
  type        = string

  validation {
    condition     = can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,}$", var.domain_name))
    error_message = "domain_name is a full host name in lower case."
  }
}

variable "certificate_arn" {
  description = "An ACM certificate for domain_name, in var.region. Null: one is made, and validated in hosted_zone_id."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_arn == null || can(regex("^arn:aws[a-z-]*:acm:", var.certificate_arn))
    error_message = "certificate_arn is an ARN of ACM."
  }

  validation {
    condition     = var.certificate_arn != null || var.hosted_zone_id != null
    error_message = "Give certificate_arn, or hosted_zone_id to make and validate a certificate in: the platform has no port without TLS."
  }
}

variable "hosted_zone_id" {
  description = "The Route 53 zone of domain_name: its record, and the validation of a certificate, are made there. Null: both are yours."
  type        = string
  default     = null

  validation {
    condition     = var.hosted_zone_id == null || can(regex("^[A-Z0-9]{8,32}$", var.hosted_zone_id))
    error_message = "A zone's id is capital letters and digits, such as Z0123456789ABCDEFGHIJ."
  }
}

variable "tls_policy" {
  description = "ELB's policy of TLS versions and ciphers."
  type        = string
  default     = "ELBSecurityPolicy-TLS13-1-2-Res-2021-06"

  validation {
    condition     = startswith(var.tls_policy, "ELBSecurityPolicy-TLS13-1-2-") || startswith(var.tls_policy, "ELBSecurityPolicy-TLS13-1-3-")
    error_message = "A policy of TLS 1.2 and 1.3, or 1.3 alone: ELBSecurityPolicy-TLS13-1-2-..., ELBSecurityPolicy-TLS13-1-3-..."
  }
}

variable "client_cidrs" {
  description = "Networks that may reach the load balancer: 0.0.0.0/0, or a desk's own addresses."
  type        = list(string)
  default     = ["0.0.0.0/0"]

  validation {
    condition     = length(var.client_cidrs) > 0 && alltrue([for cidr in var.client_cidrs : can(cidrnetmask(cidr))])
    error_message = "client_cidrs is a list of IPv4 networks, one at least."
  }
}

variable "waf_requests_per_5_minutes" {
  description = "Requests of one address in five minutes before WAF refuses it. The gateway's own limits, by user, are far below; this is for floods."
  type        = number
  default     = 20000

  validation {
    condition     = var.waf_requests_per_5_minutes >= 100 && var.waf_requests_per_5_minutes <= 2000000000
    error_message = "WAF takes 100 to 2,000,000,000."
  }
}

variable "hsts_s" {
  description = "Seconds of Strict-Transport-Security, for domain_name and all names below it. 0: none."
  type        = number
  default     = 31536000

  validation {
    condition     = var.hsts_s >= 0 && floor(var.hsts_s) == var.hsts_s
    error_message = "hsts_s is a whole number of seconds."
  }
}

variable "cors_origins" {
  description = "Origins whose pages may call, such as https://app.example.com."
  type        = list(string)
  default     = []

  validation {
    condition     = alltrue([for origin in var.cors_origins : can(regex("^https://[^/*]+$", origin))])
    error_message = "An origin is https:// and a host, without a path or a wildcard."
  }
}

# --- the tasks ---

variable "cpu_architecture" {
  description = "X86_64, or ARM64, which is a fifth cheaper; images must be built for it: docker buildx build --platform linux/amd64 or linux/arm64."
  type        = string
  default     = "X86_64"

  validation {
    condition     = contains(["X86_64", "ARM64"], var.cpu_architecture)
    error_message = "cpu_architecture is X86_64 or ARM64."
  }
}

variable "images" {
  description = "Image (gateway, cache, ingestion, analytics, signals) -> its reference by digest, <repository>@sha256:<64 digits>; deploy-prod.sh fills it after pushing. Missing: a tag that no image has, so that nothing unknown ever runs."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for image in values(var.images) : can(regex("^[^@\\s]+@sha256:[0-9a-f]{64}$", image))])
    error_message = "An image is a repository, @sha256: and 64 hexadecimal digits: a tag could mean another image tomorrow."
  }
}

variable "tasks" {
  description = "Overrides of size and number by service: cpu (1024 is one), memory (MiB), count, or min and max where it scales."
  type = map(object({
    cpu    = optional(number)
    memory = optional(number)
    count  = optional(number)
    min    = optional(number)
    max    = optional(number)
  }))
  default = {}

  validation {
    condition = alltrue([for name in keys(var.tasks) : contains([
      "gateway", "cache", "ingestion", "analytics", "signals", "collector", "backfiller", "ingestion-worker",
      "volatility-snapshots", "signals-worker", "migrate",
    ], name)])
    error_message = "tasks names a service that there is not."
  }

  validation {
    condition     = alltrue([for task in values(var.tasks) : contains([256, 512, 1024, 2048, 4096, 8192, 16384], coalesce(task.cpu, 256))])
    error_message = "Fargate's cpu is 256, 512, 1024, 2048, 4096, 8192 or 16384."
  }

  validation {
    condition = alltrue([for name, task in var.tasks :
      (task.min == null && task.max == null) || contains(["gateway", "cache", "analytics", "signals"], name)
    ])
    error_message = "gateway, cache, analytics and signals scale; the others have a count."
  }

  validation {
    condition = alltrue([for task in values(var.tasks) :
      task.min == null || task.max == null ? true : task.min >= 1 && task.min <= task.max
    ])
    error_message = "min is 1 at least, and max no less than min."
  }

  validation {
    condition = alltrue([for name in ["collector", "backfiller", "ingestion-worker", "volatility-snapshots", "signals-worker"] :
      try(var.tasks[name].count, null) == null ? true : contains([0, 1], var.tasks[name].count)
    ])
    error_message = "There is one of each worker: a lease in the database lets one work, a second would only wait. 0 turns it off."
  }
}

variable "gunicorn_workers" {
  description = "Processes in each task of a web service."
  type        = number
  default     = 2

  validation {
    condition     = var.gunicorn_workers >= 1 && var.gunicorn_workers <= 16
    error_message = "1 to 16 processes."
  }
}

variable "vendor_key" {
  description = "Whether the secret DATABENTO_API_KEY has a value: ECS starts no task with a secret that has none. Without it nothing is collected, and files of DBN are imported."
  type        = bool
  default     = true
}

variable "settings" {
  description = "More variables by service, or for all of them under `all`: settings of .env.example that are no secrets, such as {gateway = {RATE_LIMIT_SCALE = \"2\"}}."
  type        = map(map(string))
  default     = {}

  validation {
    condition = alltrue([for variables in values(var.settings) : alltrue([for name in keys(variables) :
      can(regex("^[A-Z][A-Z0-9_]*$", name)) && !can(regex("(PASSWORD|SECRET|TOKEN|API_KEY|SIGNING_KEY|ACCEPT_KEY)", name))
    ])])
    error_message = "Names in upper case, and no secret: those are in Secrets Manager."
  }
}

variable "log_level" {
  description = "DEBUG, INFO, WARNING or ERROR."
  type        = string
  default     = "INFO"

  validation {
    condition     = contains(["DEBUG", "INFO", "WARNING", "ERROR"], var.log_level)
    error_message = "log_level is DEBUG, INFO, WARNING or ERROR."
  }
}

variable "container_insights" {
  description = "CloudWatch's figures of each task and container, which the alarms on running tasks read: enabled, enhanced or disabled."
  type        = string
  default     = "enabled"

  validation {
    condition     = contains(["enabled", "enhanced", "disabled"], var.container_insights)
    error_message = "container_insights is enabled, enhanced or disabled."
  }
}

variable "execute_command" {
  description = "ECS Exec, a shell in a running task, for an incident. It makes the root file systems writable, because its agent writes there, and runs as root."
  type        = bool
  default     = false
}

variable "service_connect_tls" {
  description = "Service Connect with TLS between the services, by a private CA of 50 dollars a month (short-lived certificates; aws.amazon.com/private-ca/pricing, read in 2025) and a proxy's 256 CPU units and 64 MiB or more in each task. False: plain HTTP within the security groups, found by DNS, each request signed for its one service."
  type        = bool
  default     = false
}

variable "autoscaling" {
  description = "Whether gateway, cache, analytics and signals grow and shrink by themselves. False: as many as their min, or as somebody sets by hand; also where this is tried against moto, which does not know a call of it."
  type        = bool
  default     = true
}

variable "cpu_target_percent" {
  description = "Services that scale are kept near this."
  type        = number
  default     = 60

  validation {
    condition     = var.cpu_target_percent >= 20 && var.cpu_target_percent <= 90
    error_message = "20 to 90 percent."
  }
}

variable "requests_per_gateway_per_minute" {
  description = "The gateway is also kept near this many requests a minute and task."
  type        = number
  default     = 12000

  validation {
    condition     = var.requests_per_gateway_per_minute >= 60
    error_message = "One a second at least."
  }
}

# --- who deploys ---

variable "github_repository" {
  description = "owner/name whose workflow may release, by OIDC and without keys. Null: none."
  type        = string
  default     = null

  validation {
    condition     = var.github_repository == null || can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.github_repository))
    error_message = "github_repository is owner/name."
  }
}

variable "github_environment" {
  description = "The GitHub environment that a releasing job runs in; who must approve it is set there. Null: var.environment."
  type        = string
  default     = null
}

variable "github_oidc_provider_arn" {
  description = "The account's OIDC provider of GitHub, of which there can be one. Null: it is made."
  type        = string
  default     = null

  validation {
    condition     = var.github_oidc_provider_arn == null || can(regex("oidc-provider/token\\.actions\\.githubusercontent\\.com$", var.github_oidc_provider_arn))
    error_message = "The ARN ends in oidc-provider/token.actions.githubusercontent.com."
  }
}

variable "state_bucket" {
  description = "The bucket of the state, for the rights of GitHub's workflow. Needed with github_repository."
  type        = string
  default     = null

  validation {
    condition     = var.github_repository == null || var.state_bucket != null
    error_message = "github_repository needs state_bucket."
  }
}
