# PostgreSQL: RDS, or a server that Terraform only points at, or TimescaleDB on an instance of ours.
#
# RDS has no timescaledb extension (it has pg_partman and pg_cron): there the time tables are native partitions, which
# the migrations choose by themselves. The master is no superuser; tests/database/test_managed_postgres.py provisions
# and migrates as such a one.

locals {
  database_on_rds = var.database == "rds"
  database_on_ec2 = var.database == "timescale-ec2"

  database_host = (
    local.database_on_rds ? aws_db_instance.main[0].address :
    local.database_on_ec2 ? module.timescale_ec2[0].host :
    var.timescale_endpoint.host
  )
  database_port = (
    local.database_on_rds ? aws_db_instance.main[0].port :
    local.database_on_ec2 ? 5432 :
    var.timescale_endpoint.port
  )
  # who provisions, and the secret whose JSON key `password` is theirs; RDS makes and rotates it, Terraform never sees it
  database_master_user = (
    local.database_on_rds ? "ots_admin" : local.database_on_ec2 ? "ots_admin" : var.timescale_endpoint.user
  )
  database_master_secret_arn = (
    local.database_on_rds ? aws_db_instance.main[0].master_user_secret[0].secret_arn :
    local.database_on_ec2 ? module.timescale_ec2[0].master_secret_arn :
    var.timescale_endpoint.password_secret_arn
  )
  # libpq's PGSSLROOTCERT: tasks write the secret DATABASE_CA there when they start, or trust what the system trusts
  database_ca_file = var.database_public_ca ? "system" : "/tmp/database-ca.pem"
}

resource "aws_db_subnet_group" "main" {
  count = local.database_on_rds ? 1 : 0

  name       = local.name
  subnet_ids = [for subnet in aws_subnet.data : subnet.id]
}

resource "aws_db_parameter_group" "main" {
  count = local.database_on_rds ? 1 : 0

  name_prefix = "${local.name}-postgres17-"
  family      = "postgres17"
  description = "${local.name}: TLS only, UTC, what is slow is logged without its parameters"

  dynamic "parameter" {
    for_each = {
      "rds.force_ssl" = "1"
      timezone        = "UTC"
      # SCRAM alone: provisioning never makes an MD5 password
      "rds.accepted_password_auth_method" = "scram"
      log_min_duration_statement          = "1000"
      # prices are no secret, but what users ask is theirs
      log_parameter_max_length          = "0"
      log_parameter_max_length_on_error = "0"
      log_lock_waits                    = "1"
      # a hundred partitions of one table are locked by one query without a bound in time
      max_locks_per_transaction = "256"
      # an hour of a killed client's open transaction would hold back every VACUUM
      idle_in_transaction_session_timeout = "600000"
      shared_preload_libraries            = "pg_stat_statements"
    }
    content {
      name  = parameter.key
      value = parameter.value
      # some take effect after a restart only; saying so for all costs nothing at creation
      apply_method = "pending-reboot"
    }
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_db_instance" "main" {
  #checkov:skip=CKV_AWS_157:multi-AZ by variable, true unless a small environment says otherwise
  #checkov:skip=CKV_AWS_293:deletion protection by variable, true unless destroy needs it
  #checkov:skip=CKV2_AWS_69:rds.force_ssl is 1 in the parameter group, in a dynamic block that the check does not see
  #checkov:skip=CKV_AWS_118:enhanced monitoring by variable, on by default
  #checkov:skip=CKV_AWS_161:roles log in by SCRAM over verified TLS; IAM's tokens last 15 minutes, which a pool that reconnects at any moment would have to renew
  count = local.database_on_rds ? 1 : 0

  identifier = local.name

  engine                     = "postgres"
  engine_version             = var.database_engine_version
  auto_minor_version_upgrade = true
  instance_class             = var.database_instance_class
  multi_az                   = var.database_multi_az
  ca_cert_identifier         = "rds-ca-rsa2048-g1"
  parameter_group_name       = aws_db_parameter_group.main[0].name

  storage_type          = "gp3"
  allocated_storage     = var.database_storage_gb
  max_allocated_storage = var.database_max_storage_gb
  storage_encrypted     = true
  kms_key_id            = aws_kms_key.data.arn

  # provisioning makes the databases
  username                      = local.database_master_user
  manage_master_user_password   = true
  master_user_secret_kms_key_id = aws_kms_key.secrets.key_id

  db_subnet_group_name   = aws_db_subnet_group.main[0].name
  vpc_security_group_ids = [aws_security_group.database.id]
  publicly_accessible    = false
  port                   = 5432

  backup_retention_period   = var.database_backup_days
  backup_window             = "08:00-09:00" # UTC: the US market is closed, in summer and winter
  maintenance_window        = "sun:09:30-sun:10:30"
  copy_tags_to_snapshot     = true
  deletion_protection       = var.deletion_protection
  skip_final_snapshot       = !var.database_final_snapshot
  final_snapshot_identifier = "${local.name}-final"
  delete_automated_backups  = !var.database_final_snapshot

  performance_insights_enabled          = true
  performance_insights_kms_key_id       = aws_kms_key.data.arn
  performance_insights_retention_period = 7 # days; those cost nothing
  monitoring_interval                   = var.database_monitoring_interval_s
  monitoring_role_arn                   = var.database_monitoring_interval_s > 0 ? aws_iam_role.database_monitoring[0].arn : null
  enabled_cloudwatch_logs_exports       = ["postgresql", "upgrade"]

  depends_on = [aws_cloudwatch_log_group.database]

  lifecycle {
    # RDS upgrades the minor version, and enlarges the storage, by itself
    ignore_changes = [engine_version, allocated_storage]
  }
}

# what RDS does by itself and somebody should know of
resource "aws_db_event_subscription" "main" {
  count = local.database_on_rds ? 1 : 0

  name             = local.name
  sns_topic        = aws_sns_topic.alerts.arn
  source_type      = "db-instance"
  source_ids       = [aws_db_instance.main[0].identifier]
  event_categories = ["failover", "failure", "low storage", "maintenance", "recovery", "deletion"]
}

resource "aws_iam_role" "database_monitoring" {
  count = local.database_on_rds && var.database_monitoring_interval_s > 0 ? 1 : 0

  name = "${local.name}-rds-monitoring"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "monitoring.rds.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })
}

resource "aws_iam_role_policy_attachment" "database_monitoring" {
  count = length(aws_iam_role.database_monitoring)

  role       = aws_iam_role.database_monitoring[0].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
}

# --- somebody else's server over PrivateLink ---

resource "aws_vpc_endpoint" "timescale" {
  count = var.database == "endpoint" && try(var.timescale_endpoint.private_link_service, null) != null ? 1 : 0

  vpc_id             = aws_vpc.main.id
  vpc_endpoint_type  = "Interface"
  service_name       = var.timescale_endpoint.private_link_service
  subnet_ids         = [for subnet in aws_subnet.data : subnet.id]
  security_group_ids = [aws_security_group.database.id]
  # the host name that the vendor gives resolves to this endpoint; its certificate names it, so verify-full works
  private_dns_enabled = true

  tags = { Name = "${local.name}-timescale" }
}

# without PrivateLink its address is not ours to name: by peering or through the NAT, TLS all the same
resource "aws_vpc_security_group_egress_rule" "endpoint_without_private_link" {
  for_each = toset(var.database == "endpoint" && length(aws_vpc_endpoint.timescale) == 0 ? local.task_names : [])

  security_group_id = aws_security_group.service[each.key].id
  description       = "The database that timescale_endpoint names"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = local.database_port
  to_port           = local.database_port
}

# --- TimescaleDB on an instance of ours ---

module "timescale_ec2" {
  source = "./modules/timescale-ec2"
  count  = local.database_on_ec2 ? 1 : 0

  name              = local.name
  vpc_id            = aws_vpc.main.id
  vpc_cidr          = var.vpc_cidr
  zone              = var.availability_zones[0]
  subnet_id         = aws_subnet.private[var.availability_zones[0]].id # it fetches its packages through the NAT
  security_group_id = aws_security_group.database.id

  instance_type     = var.timescale_ec2.instance_type
  ami_id            = var.timescale_ec2.ami_id
  volume_gb         = var.timescale_ec2.volume_gb
  volume_iops       = var.timescale_ec2.volume_iops
  volume_mbps       = var.timescale_ec2.volume_mbps
  snapshots_kept    = var.timescale_ec2.snapshots_kept
  timescale_version = var.timescale_ec2.timescale_version
  backup_days       = var.database_backup_days

  data_key_arn       = aws_kms_key.data.arn
  secrets_key_arn    = aws_kms_key.secrets.arn
  ca_secret_arn      = aws_secretsmanager_secret.platform["DATABASE_CA"].arn
  backups_bucket     = aws_s3_bucket.backups.id
  backups_bucket_arn = aws_s3_bucket.backups.arn
  region             = var.region
  partition          = local.partition
  alerts_topic_arn   = aws_sns_topic.alerts.arn

  log_group_name      = aws_cloudwatch_log_group.database["timescale"].name
  log_group_arn       = aws_cloudwatch_log_group.database["timescale"].arn
  secret_recovery     = var.secrets_recovery_days
  deletion_protection = var.deletion_protection
}

# where interface endpoints answer for Secrets Manager and CloudWatch, they let it in
resource "aws_vpc_security_group_ingress_rule" "endpoints_timescale" {
  count = local.database_on_ec2 && var.interface_endpoints ? 1 : 0

  security_group_id            = aws_security_group.endpoints.id
  description                  = "From the database's instance"
  referenced_security_group_id = module.timescale_ec2[0].security_group_id
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

check "the_database_is_named" {
  assert {
    condition     = var.database != "endpoint" || var.timescale_endpoint != null
    error_message = "database = endpoint needs timescale_endpoint."
  }
}
