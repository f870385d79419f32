# Prometheus and Alertmanager with the rules of monitoring/, and the exporters that those need, as containers of one task.
#
# Not Amazon's managed Prometheus: it charges by the sample, which for this many series is several times the price of the
# task (docs/COST_AND_SCALE.md), and scraping Fargate needs a collector of one's own all the same. What that would win,
# and this does not have: series that outlive the task. A deployment or the loss of the task begins them anew, so the
# slow burn-rate alerts are blind for their first hours; CloudWatch's alarms do not depend on it.
#
# No port leads here from outside. With execute_command: aws ssm start-session forwards 9090 (docs/DEPLOYMENT_GUIDE.md).
# Grafana does not run in AWS: docker compose --profile grafana, or a managed one, reads Prometheus through that.

locals {
  monitoring_folder = "${path.module}/../../monitoring"
  rules_folder      = "${local.monitoring_folder}/prometheus/rules"
  # where somebody tries this folder alone, away from its repository, there is nothing to be alerted by
  alertmanager_file = fileexists("${local.monitoring_folder}/alertmanager/alertmanager.yml") ? file("${local.monitoring_folder}/alertmanager/alertmanager.yml") : ""

  prometheus_yml = templatefile("${path.module}/monitoring/prometheus.yml.tftpl", {
    runbooks_url = var.runbooks_url
    services = { for name, service in local.services : service.compose_service => {
      name = "${name}.${aws_service_discovery_private_dns_namespace.main.name}"
      port = service.metrics_port
    } }
    beside = merge(
      { prometheus = 9090, alertmanager = 9093, postgres = 9187 },
      { for name in var.redis ? ["redis"] : [] : name => 9121 },
    )
  })

  # the same routes as everywhere; whoever is told is the topic of all other alarms
  alertmanager_yml = replace(
    local.alertmanager_file,
    "    #webhook_configs",
    "    sns_configs: [{ topic_arn: \"${aws_sns_topic.alerts.arn}\", sigv4: { region: \"${var.region}\" }, send_resolved: true }]",
  )

  # files as variables: task definitions take 64 KB in all, and these are 20 when packed
  monitoring_files = merge(
    { "prometheus.yml" = local.prometheus_yml, "alertmanager.yml" = local.alertmanager_yml },
    { for file in fileset(local.rules_folder, "*.yml") : "rules/${file}" => file("${local.rules_folder}/${file}") },
  )

  monitoring_container = {
    essential              = true
    readonlyRootFilesystem = true
    user                   = "65534:65534" # nobody
    linuxParameters        = { initProcessEnabled = true, capabilities = { drop = ["ALL"] } }
    mountPoints            = [{ sourceVolume = "etc", containerPath = "/etc/monitoring", readOnly = true }]
    dependsOn              = [{ containerName = "configure", condition = "SUCCESS" }]
    environment            = []
    secrets                = []
  }

  monitoring_containers = { for name, container in {
    # writes the others' files as root, then ends
    configure = {
      image = var.monitoring_images.prometheus
      user  = "0:0"
      entryPoint = ["sh", "-c", join("\n", [
        "set -eu",
        "mkdir -p /etc/monitoring/rules",
        "env | while IFS= read -r line; do case $line in FILE_*)",
        # not by read's own splitting: busybox takes the padding of base64 for separators
        "  value=$${line#*=}; echo \"$${value#*:}\" | base64 -d | gunzip > \"/etc/monitoring/$${value%%:*}\" ;;",
        "esac; done",
        "printf %s \"$METRICS_TOKEN\" > /etc/monitoring/gateway-token",
        "printf %s \"$DATABASE_CA\" > /etc/monitoring/database-ca.pem",
        "chown 65534:65534 /etc/monitoring/gateway-token",
        "chmod 0400 /etc/monitoring/gateway-token",
      ])]
      command     = []
      essential   = false
      dependsOn   = []
      mountPoints = [{ sourceVolume = "etc", containerPath = "/etc/monitoring", readOnly = false }]
      # root, for files that belong to nobody else; it needs no other power
      linuxParameters = { initProcessEnabled = true, capabilities = { drop = ["NET_RAW", "SYS_CHROOT", "MKNOD", "SETPCAP", "SETFCAP", "AUDIT_WRITE", "KILL", "NET_BIND_SERVICE"] } }
      environment = [for number, path in sort(keys(local.monitoring_files)) :
        { name = "FILE_${number}", value = "${path}:${base64gzip(local.monitoring_files[path])}" }
      ]
      secrets = ["METRICS_TOKEN", "DATABASE_CA"]
    }
    prometheus = {
      image      = var.monitoring_images.prometheus
      entryPoint = ["/bin/prometheus"]
      command = [
        "--config.file=/etc/monitoring/prometheus.yml", "--storage.tsdb.path=/prometheus",
        "--storage.tsdb.retention.time=${var.prometheus_retention_days}d", "--web.listen-address=127.0.0.1:9090",
      ]
      mountPoints = concat(local.monitoring_container.mountPoints, [{ sourceVolume = "prometheus", containerPath = "/prometheus", readOnly = false }])
    }
    alertmanager = {
      image      = var.monitoring_images.alertmanager
      entryPoint = ["/bin/alertmanager"]
      command = [
        "--config.file=/etc/monitoring/alertmanager.yml", "--storage.path=/alertmanager", "--cluster.listen-address=",
        "--web.listen-address=127.0.0.1:9093",
      ]
      mountPoints = concat(local.monitoring_container.mountPoints, [{ sourceVolume = "alertmanager", containerPath = "/alertmanager", readOnly = false }])
    }
    postgres-exporter = {
      image      = var.monitoring_images.postgres_exporter
      entryPoint = ["/bin/postgres_exporter"]
      command    = ["--web.listen-address=127.0.0.1:9187"]
      environment = [
        { name = "DATA_SOURCE_URI", value = "${local.database_host}:${local.database_port}/${local.market_database}?sslmode=verify-full&sslrootcert=/etc/monitoring/database-ca.pem&connect_timeout=2" },
        { name = "DATA_SOURCE_USER", value = "ots_monitor" },
      ]
      secrets = ["DB_PASSWORD_MONITOR"]
    }
    redis-exporter = {
      image      = var.monitoring_images.redis_exporter
      entryPoint = ["/redis_exporter"]
      command    = ["--web.listen-address=127.0.0.1:9121"]
      environment = [
        { name = "REDIS_ADDR", value = "rediss://${local.redis_url_host}:${local.redis_port}" },
        { name = "REDIS_EXPORTER_CONNECTION_TIMEOUT", value = "4s" },
      ]
      secrets = ["REDIS_PASSWORD"]
    }
  } : name => merge(local.monitoring_container, container) if name != "redis-exporter" || var.redis }

  # as each image calls what the platform calls otherwise
  monitoring_secret_names = { DB_PASSWORD_MONITOR = "DATA_SOURCE_PASS" }
  monitoring_secrets      = distinct(flatten([for container in local.monitoring_containers : container.secrets]))
}

resource "aws_cloudwatch_log_group" "monitoring" {
  #checkov:skip=CKV_AWS_338:kept as long as log_retention_days says
  count = var.prometheus ? 1 : 0

  name              = "/${local.name}/monitoring"
  retention_in_days = var.log_retention_days
  kms_key_id        = aws_kms_key.logs.arn
}

resource "aws_ecs_task_definition" "monitoring" {
  #checkov:skip=CKV_AWS_336:every container's root is read-only; the check does not read merged definitions
  count = var.prometheus ? 1 : 0

  family                   = "${local.name}-monitoring"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 512
  memory                   = 2048
  execution_role_arn       = aws_iam_role.monitoring["execution"].arn
  task_role_arn            = aws_iam_role.monitoring["task"].arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = var.cpu_architecture
  }

  dynamic "volume" {
    for_each = toset(["etc", "prometheus", "alertmanager"])
    content {
      name = volume.value
    }
  }

  container_definitions = jsonencode([for name, container in local.monitoring_containers : merge(container, {
    name    = name
    secrets = [for secret in container.secrets : { name = lookup(local.monitoring_secret_names, secret, secret), valueFrom = aws_secretsmanager_secret.platform[secret].arn }]
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        awslogs-group         = aws_cloudwatch_log_group.monitoring[0].name
        awslogs-region        = var.region
        awslogs-stream-prefix = name
      }
    }
  })])
}

resource "aws_ecs_service" "monitoring" {
  count = var.prometheus ? 1 : 0

  name             = "monitoring"
  cluster          = aws_ecs_cluster.main.id
  task_definition  = aws_ecs_task_definition.monitoring[0].arn
  desired_count    = 1
  launch_type      = "FARGATE"
  platform_version = "LATEST"

  # one at a time: two would tell everything twice
  deployment_minimum_healthy_percent = 0
  deployment_maximum_percent         = 100
  enable_execute_command             = var.execute_command
  propagate_tags                     = "SERVICE"

  network_configuration {
    subnets          = [for subnet in aws_subnet.private : subnet.id]
    security_groups  = [aws_security_group.monitoring.id]
    assign_public_ip = false
  }

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }
}

# --- what it may ---

resource "aws_iam_role" "monitoring" {
  for_each = var.prometheus ? toset(["execution", "task"]) : []

  name = "${local.name}-monitoring-${each.key}"
  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Principal = { Service = "ecs-tasks.amazonaws.com" }
      Action    = "sts:AssumeRole"
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })
}

resource "aws_iam_role_policy" "monitoring" {
  for_each = aws_iam_role.monitoring

  name = "monitoring"
  role = each.value.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = each.key == "task" ? [
      { Sid = "Tell", Effect = "Allow", Action = ["sns:Publish"], Resource = [aws_sns_topic.alerts.arn] },
      { Sid = "TheTopicsKey", Effect = "Allow", Action = ["kms:Decrypt", "kms:GenerateDataKey"], Resource = [aws_kms_key.logs.arn] },
      ] : [
      { Sid = "ItsSecrets", Effect = "Allow", Action = ["secretsmanager:GetSecretValue"], Resource = [for name in local.monitoring_secrets : aws_secretsmanager_secret.platform[name].arn] },
      { Sid = "TheirKey", Effect = "Allow", Action = ["kms:Decrypt"], Resource = [aws_kms_key.secrets.arn] },
      { Sid = "ItsLog", Effect = "Allow", Action = ["logs:CreateLogStream", "logs:PutLogEvents"], Resource = ["${aws_cloudwatch_log_group.monitoring[0].arn}:*"] },
    ]
  })
}

# --- whom it may reach: the services' metrics are in security-groups.tf ---

# where interface endpoints are left out, security-groups.tf lets it out already
resource "aws_vpc_security_group_egress_rule" "monitoring_out" {
  count = var.prometheus && var.interface_endpoints ? 1 : 0

  security_group_id = aws_security_group.monitoring.id
  description       = "The registries of its images, and SNS"
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

locals {
  monitored_stores = { for name, store in {
    database = { group = aws_security_group.database.id, port = local.database_port }
    redis    = { group = aws_security_group.redis.id, port = local.redis_port }
  } : name => store if var.prometheus && (name == "database" || var.redis) }
}

resource "aws_vpc_security_group_egress_rule" "monitoring_stores" {
  for_each = local.monitored_stores

  security_group_id            = aws_security_group.monitoring.id
  description                  = "Exporter of ${each.key}"
  referenced_security_group_id = each.value.group
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
}

resource "aws_vpc_security_group_ingress_rule" "monitoring_stores" {
  for_each = local.monitored_stores

  security_group_id            = each.value.group
  description                  = "From monitoring's exporter"
  referenced_security_group_id = aws_security_group.monitoring.id
  ip_protocol                  = "tcp"
  from_port                    = each.value.port
  to_port                      = each.value.port
}

check "the_rules_are_beside" {
  assert {
    condition     = !var.prometheus || (length(local.alertmanager_file) > 0 && length(fileset(local.rules_folder, "*.yml")) > 0)
    error_message = "There is no monitoring/ two folders above: Prometheus would have no rule. Run Terraform in a checkout of the whole repository."
  }
}
