# PostgreSQL 17 with TimescaleDB on one instance. What RDS would do is done here: encrypted disk, TLS, backups with the WAL
# to go on from them (pgBackRest to S3), daily snapshots, alarms, recovery onto another machine of the same zone. What
# RDS does and this does not: a standby in another zone, and patches by themselves. The zone's failure means a restore.
#
# The instance is cattle, the volume is not: `terraform apply -replace=module.timescale_ec2[0].aws_instance.main` makes the
# instance anew, with new packages, around the same data, certificate, address and password.

locals {
  architecture = can(regex("^[a-z]+[0-9]+g[a-z]*\\.", var.instance_type)) ? "arm64" : "amd64"
}

data "aws_ssm_parameter" "ubuntu" {
  count = var.ami_id == null ? 1 : 0

  name = "/aws/service/canonical/ubuntu/server/24.04/stable/current/${local.architecture}/hvm/ebs-gp3/ami-id"
}

resource "aws_secretsmanager_secret" "master" {
  #checkov:skip=CKV2_AWS_57:the administrator's password, which only the migration task reads; changing it is ALTER ROLE and a new value
  name                    = "${var.name}/database-master"
  description             = "the administrator of PostgreSQL; the instance makes it at its first start"
  kms_key_id              = var.secrets_key_arn
  recovery_window_in_days = var.secret_recovery
}

# --- the machine ---

resource "aws_security_group" "out" {
  name        = "${var.name}-timescale-out"
  description = "The database's instance fetches packages and reaches AWS"
  vpc_id      = var.vpc_id
  tags        = { Name = "${var.name}-timescale-out" }
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.out.id
  description       = "Packages, S3, Secrets Manager, SSM, CloudWatch"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_security_group_egress_rule" "http" {
  #checkov:skip=CKV_AWS_382:one port, for Ubuntu's mirrors, whose packages are signed
  security_group_id = aws_security_group.out.id
  description       = "Ubuntu's mirrors: signed packages over HTTP"
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
  cidr_ipv4         = "0.0.0.0/0"
}

# an address and a name that outlive the instance: the certificate names it
resource "aws_network_interface" "main" {
  subnet_id       = var.subnet_id
  security_groups = [var.security_group_id, aws_security_group.out.id]
  description     = "${var.name}: PostgreSQL"
  tags            = { Name = "${var.name}-timescale" }
}

resource "aws_instance" "main" {
  #checkov:skip=CKV2_AWS_41:it has one, below
  #checkov:skip=CKV_AWS_135:instances of this generation are EBS-optimised without being asked
  ami                     = coalesce(var.ami_id, try(nonsensitive(data.aws_ssm_parameter.ubuntu[0].value), null))
  instance_type           = var.instance_type
  iam_instance_profile    = aws_iam_instance_profile.main.name
  disable_api_termination = var.deletion_protection
  monitoring              = true
  ebs_optimized           = true

  network_interface {
    network_interface_id = aws_network_interface.main.id
    device_index         = 0
  }

  metadata_options {
    http_tokens                 = "required"
    http_endpoint               = "enabled"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    volume_size = 20
    encrypted   = true
    kms_key_id  = var.data_key_arn
  }

  user_data_base64 = base64gzip(templatefile("${path.module}/first-start.sh.tftpl", {
    name              = var.name
    region            = var.region
    architecture      = local.architecture
    volume_id         = aws_ebs_volume.data.id
    host              = aws_network_interface.main.private_dns_name
    vpc_cidr          = var.vpc_cidr
    master_secret     = aws_secretsmanager_secret.master.arn
    ca_secret         = var.ca_secret_arn
    bucket            = var.backups_bucket
    backup_days       = var.backup_days
    log_group         = var.log_group_name
    timescale_version = var.timescale_version == null ? "" : var.timescale_version
  }))

  tags = { Name = "${var.name}-timescale" }

  # its first start asks for these at once
  depends_on = [aws_iam_role_policy.main, aws_vpc_security_group_egress_rule.https, aws_vpc_security_group_egress_rule.http]

  lifecycle {
    # a newer image or script is taken when somebody replaces the instance, not by the way
    ignore_changes = [ami, user_data_base64]
  }
}

resource "aws_ebs_volume" "data" {
  availability_zone = var.zone
  type              = "gp3"
  size              = var.volume_gb
  iops              = var.volume_iops
  throughput        = var.volume_mbps
  encrypted         = true
  kms_key_id        = var.data_key_arn
  final_snapshot    = true

  tags = { Name = "${var.name}-timescale-data", Snapshots = "${var.name}-daily" }
}

resource "aws_volume_attachment" "data" {
  device_name                    = "/dev/sdf"
  volume_id                      = aws_ebs_volume.data.id
  instance_id                    = aws_instance.main.id
  stop_instance_before_detaching = true
}

# --- what it may ---

resource "aws_iam_role" "main" {
  name = "${var.name}-timescale"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ec2.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_instance_profile" "main" {
  name = "${var.name}-timescale"
  role = aws_iam_role.main.name
}

# a shell through SSM, so that no port is open for one and no key lies anywhere
resource "aws_iam_role_policy_attachment" "ssm" {
  role       = aws_iam_role.main.name
  policy_arn = "arn:${var.partition}:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

resource "aws_iam_role_policy" "main" {
  name = "database"
  role = aws_iam_role.main.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "ItsSecretAndItsCertificate"
        Effect   = "Allow"
        Action   = ["secretsmanager:GetSecretValue", "secretsmanager:PutSecretValue"]
        Resource = [aws_secretsmanager_secret.master.arn, var.ca_secret_arn]
      },
      {
        Sid      = "ListItsBackups"
        Effect   = "Allow"
        Action   = "s3:ListBucket"
        Resource = var.backups_bucket_arn
        Condition = {
          StringLike = { "s3:prefix" = ["pgbackrest", "pgbackrest/*"] }
        }
      },
      {
        Sid      = "ItsBackups"
        Effect   = "Allow"
        Action   = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
        Resource = "${var.backups_bucket_arn}/pgbackrest/*"
      },
      {
        Sid      = "Keys"
        Effect   = "Allow"
        Action   = ["kms:Decrypt", "kms:GenerateDataKey"]
        Resource = [var.data_key_arn, var.secrets_key_arn]
      },
      {
        Sid      = "ItsLog"
        Effect   = "Allow"
        Action   = ["logs:CreateLogStream", "logs:PutLogEvents", "logs:DescribeLogStreams"]
        Resource = "${var.log_group_arn}:*"
      },
      {
        # PutMetricData knows no resources; the condition holds it to one namespace
        Sid       = "ItsMetrics"
        Effect    = "Allow"
        Action    = "cloudwatch:PutMetricData"
        Resource  = "*"
        Condition = { StringEquals = { "cloudwatch:namespace" = "${var.name}/timescale" } }
      },
    ]
  })
}

# --- snapshots of the volume, beside pgBackRest's backups ---

resource "aws_iam_role" "snapshots" {
  name = "${var.name}-timescale-snapshots"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "dlm.amazonaws.com" }
      Action    = "sts:AssumeRole"
    }]
  })
}

resource "aws_iam_role_policy_attachment" "snapshots" {
  role       = aws_iam_role.snapshots.name
  policy_arn = "arn:${var.partition}:iam::aws:policy/service-role/AWSDataLifecycleManagerServiceRole"
}

resource "aws_dlm_lifecycle_policy" "snapshots" {
  #checkov:skip=CKV_AWS_253:no copy in another region; a snapshot of an encrypted volume is encrypted
  description        = "${var.name} daily snapshots of the database volume"
  execution_role_arn = aws_iam_role.snapshots.arn
  state              = "ENABLED"

  policy_details {
    resource_types = ["VOLUME"]
    target_tags    = { Snapshots = "${var.name}-daily" }

    schedule {
      name      = "daily"
      copy_tags = true
      create_rule {
        interval      = 24
        interval_unit = "HOURS"
        times         = ["08:30"]
      }
      retain_rule {
        count = var.snapshots_kept
      }
    }
  }
}

# --- alarms ---

resource "aws_cloudwatch_metric_alarm" "recover" {
  alarm_name          = "${var.name}-timescale-recover"
  alarm_description   = "the machine under the database has failed: EC2 starts the instance on another one"
  namespace           = "AWS/EC2"
  metric_name         = "StatusCheckFailed_System"
  dimensions          = { InstanceId = aws_instance.main.id }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 60
  evaluation_periods  = 2
  alarm_actions       = ["arn:${var.partition}:automate:${var.region}:ec2:recover", var.alerts_topic_arn]
}

resource "aws_cloudwatch_metric_alarm" "reboot" {
  alarm_name          = "${var.name}-timescale-reboot"
  alarm_description   = "the database's operating system does not answer: EC2 restarts it"
  namespace           = "AWS/EC2"
  metric_name         = "StatusCheckFailed_Instance"
  dimensions          = { InstanceId = aws_instance.main.id }
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  period              = 60
  evaluation_periods  = 5
  alarm_actions       = ["arn:${var.partition}:automate:${var.region}:ec2:reboot", var.alerts_topic_arn]
}

locals {
  # what the instance reports itself, and what it means when it says nothing
  reports = {
    disk    = { tells = "the database's disk is four fifths full", metric = "disk_used_percent", above = 80 }
    memory  = { tells = "the database's machine has hardly any memory left", metric = "mem_used_percent", above = 95 }
    backups = { tells = "the newest backup is older than 30 hours", metric = "BackupAgeHours", above = 30 }
  }
}

resource "aws_cloudwatch_metric_alarm" "reports" {
  for_each = local.reports

  alarm_name          = "${var.name}-timescale-${each.key}"
  alarm_description   = each.value.tells
  namespace           = "${var.name}/timescale"
  metric_name         = each.value.metric
  statistic           = "Maximum"
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.above
  period              = 300
  evaluation_periods  = 3
  treat_missing_data  = "breaching"
  alarm_actions       = [var.alerts_topic_arn]
  ok_actions          = [var.alerts_topic_arn]
}
