variable "name" {
  description = "The first part of every name."
  type        = string
}

variable "region" {
  description = "The region."
  type        = string
}

variable "partition" {
  description = "The partition of AWS, as ARNs name it."
  type        = string
}

variable "zone" {
  description = "The zone of instance and volume."
  type        = string
}

variable "vpc_id" {
  description = "The network."
  type        = string
}

variable "vpc_cidr" {
  description = "The network's addresses: whoever may log in comes from there."
  type        = string
}

variable "subnet_id" {
  description = "A private subnet of that zone with a way out, for packages."
  type        = string
}

variable "security_group_id" {
  description = "The group that lets clients in."
  type        = string
}

variable "instance_type" {
  description = "EC2's instance type."
  type        = string
}

variable "ami_id" {
  description = "An Ubuntu 24.04 image; null: Canonical's newest."
  type        = string
  default     = null
}

variable "volume_gb" {
  description = "The data volume's size in GB."
  type        = number
}

variable "volume_iops" {
  description = "The data volume's IOPS."
  type        = number
}

variable "volume_mbps" {
  description = "The data volume's MB/s."
  type        = number
}

variable "snapshots_kept" {
  description = "How many daily snapshots of the data volume are kept."
  type        = number
}

variable "backup_days" {
  description = "For how many days pgBackRest keeps full backups and the WAL to go on from them."
  type        = number
}

variable "timescale_version" {
  description = "TimescaleDB's version; null: the newest."
  type        = string
  default     = null
}

variable "data_key_arn" {
  description = "The KMS key of volumes and backups."
  type        = string
}

variable "secrets_key_arn" {
  description = "The KMS key of secrets."
  type        = string
}

variable "ca_secret_arn" {
  description = "The secret that the instance writes its authority's certificate to."
  type        = string
}

variable "backups_bucket" {
  description = "The bucket for backups and WAL."
  type        = string
}

variable "backups_bucket_arn" {
  description = "Its ARN."
  type        = string
}

variable "alerts_topic_arn" {
  description = "Whom alarms tell."
  type        = string
}

variable "log_group_name" {
  description = "Where PostgreSQL's log goes."
  type        = string
}

variable "log_group_arn" {
  description = "Its ARN."
  type        = string
}

variable "secret_recovery" {
  description = "For how many days the deleted secret can be brought back."
  type        = number
}

variable "deletion_protection" {
  description = "Whether the instance refuses to be terminated."
  type        = bool
}
