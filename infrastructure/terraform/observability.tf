# Logs, alarms, the dashboard, and whom they tell. Prometheus' rules (prometheus.tf) look from inside, at what users see;
# these alarms look from outside, and go off also when nothing of ours runs any more.

locals {
  # the keys of local.services, and the one-off task: a list of its own, because services name their log groups
  logging_services = toset([
    "gateway", "cache", "ingestion", "analytics", "signals", "collector", "backfiller", "ingestion-worker",
    "volatility-snapshots", "signals-worker", "migrate",
  ])

  # RDS names its log groups itself: made before it, so that they have a key and an end
  database_log_groups = merge(
    { for kind in local.database_on_rds ? ["postgresql", "upgrade"] : [] : kind => "/aws/rds/instance/${local.name}/${kind}" },
    { for kind in local.database_on_ec2 ? ["timescale"] : [] : kind => "/${local.name}/${kind}" },
  )
}

resource "aws_cloudwatch_log_group" "service" {
  #checkov:skip=CKV_AWS_338:kept as long as log_retention_days says; the audit log, which must last, lies in PostgreSQL
  for_each = local.logging_services

  name              = "/${local.name}/${each.key}"
  retention_in_days = var.log_retention_days
  kms_key_id        = aws_kms_key.logs.arn
}

resource "aws_cloudwatch_log_group" "database" {
  #checkov:skip=CKV_AWS_338:as above
  for_each = local.database_log_groups

  name              = each.value
  retention_in_days = var.log_retention_days
  kms_key_id        = aws_kms_key.logs.arn
}

resource "aws_cloudwatch_log_group" "redis" {
  #checkov:skip=CKV_AWS_338:as above
  name              = "/${local.name}/redis"
  retention_in_days = var.log_retention_days
  kms_key_id        = aws_kms_key.logs.arn
}

# --- whom to tell ---

resource "aws_sns_topic" "alerts" {
  name              = "${local.name}-alerts"
  kms_master_key_id = aws_kms_key.logs.id
}

resource "aws_sns_topic_policy" "alerts" {
  arn = aws_sns_topic.alerts.arn

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "AlarmsBudgetsAndEventsOfThisAccount"
      Effect    = "Allow"
      Principal = { Service = ["cloudwatch.amazonaws.com", "budgets.amazonaws.com", "events.rds.amazonaws.com"] }
      Action    = "sns:Publish"
      Resource  = aws_sns_topic.alerts.arn
      Condition = { StringEquals = { "aws:SourceAccount" = local.account } }
    }]
  })
}

resource "aws_sns_topic_subscription" "mail" {
  for_each = toset(var.alert_emails)

  topic_arn = aws_sns_topic.alerts.arn
  protocol  = "email"
  endpoint  = each.value
}

# --- alarms on one metric each ---

locals {
  alarms = merge(
    {
      # what users see
      alb-5xx = {
        tells      = "the load balancer itself answered 5xx: no healthy gateway, or none in time"
        namespace  = "AWS/ApplicationELB", metric = "HTTPCode_ELB_5XX_Count", statistic = "Sum"
        above      = 5, period_s = 60, of = 5, at_least = 3, missing = "notBreaching"
        dimensions = { LoadBalancer = aws_lb.main.arn_suffix }
      }
      gateway-5xx = {
        tells      = "the gateway answered 5xx"
        namespace  = "AWS/ApplicationELB", metric = "HTTPCode_Target_5XX_Count", statistic = "Sum"
        above      = 10, period_s = 60, of = 5, at_least = 3, missing = "notBreaching"
        dimensions = { LoadBalancer = aws_lb.main.arn_suffix }
      }
      latency = {
        tells      = "one answer of a hundred takes longer than latency_alarm_s"
        namespace  = "AWS/ApplicationELB", metric = "TargetResponseTime", statistic = "p99"
        above      = var.latency_alarm_s, period_s = 60, of = 10, at_least = 8, missing = "notBreaching"
        dimensions = { LoadBalancer = aws_lb.main.arn_suffix }
      }
      unhealthy-gateways = {
        tells      = "a gateway's health check fails"
        namespace  = "AWS/ApplicationELB", metric = "UnHealthyHostCount", statistic = "Maximum"
        above      = 0, period_s = 60, of = 10, at_least = 5, missing = "notBreaching"
        dimensions = { LoadBalancer = aws_lb.main.arn_suffix, TargetGroup = aws_lb_target_group.gateway.arn_suffix }
      }
      no-gateway = {
        tells      = "no gateway is healthy: the platform is away"
        namespace  = "AWS/ApplicationELB", metric = "HealthyHostCount", statistic = "Maximum"
        below      = 1, period_s = 60, of = 3, at_least = 3, missing = "breaching"
        dimensions = { LoadBalancer = aws_lb.main.arn_suffix, TargetGroup = aws_lb_target_group.gateway.arn_suffix }
      }
    },
    {
      # elastic throughput has no credits, bursting lives on them
      for name in var.spool_throughput == "bursting" ? ["spool-credits"] : [] : name => {
        tells      = "EFS' burst credits run out: syncs of the spool become slow, then collection falls behind"
        namespace  = "AWS/EFS", metric = "BurstCreditBalance", statistic = "Minimum"
        below      = 100 * 1024 * 1024 * 1024, period_s = 300, of = 3, at_least = 3, missing = "missing"
        dimensions = { FileSystemId = aws_efs_file_system.spool.id }
      }
    },
    {
      spool-busy = {
        tells      = "EFS is near its limit of operations: syncs of the spool become slow"
        namespace  = "AWS/EFS", metric = "PercentIOLimit", statistic = "Maximum"
        above      = 90, period_s = 300, of = 3, at_least = 3, missing = "notBreaching"
        dimensions = { FileSystemId = aws_efs_file_system.spool.id }
      }
    },
    { for name, alarm in {
      database-cpu = {
        tells      = "the database's processors are busy"
        namespace  = "AWS/RDS", metric = "CPUUtilization", statistic = "Average"
        above      = 85, period_s = 300, of = 3, at_least = 3, missing = "breaching"
        dimensions = { DBInstanceIdentifier = local.name }
      }
      database-storage = {
        tells      = "less than a tenth of the database's first storage is free, and it may have grown as far as it may"
        namespace  = "AWS/RDS", metric = "FreeStorageSpace", statistic = "Minimum"
        below      = var.database_storage_gb * 1024 * 1024 * 1024 / 10, period_s = 300, of = 3, at_least = 3, missing = "breaching"
        dimensions = { DBInstanceIdentifier = local.name }
      }
      database-memory = {
        tells      = "the database's machine has hardly any memory left"
        namespace  = "AWS/RDS", metric = "FreeableMemory", statistic = "Minimum"
        below      = 256 * 1024 * 1024, period_s = 300, of = 3, at_least = 3, missing = "breaching"
        dimensions = { DBInstanceIdentifier = local.name }
      }
      database-connections = {
        tells      = "the database has three quarters of the connections that a db.t4g.medium allows"
        namespace  = "AWS/RDS", metric = "DatabaseConnections", statistic = "Maximum"
        above      = 300, period_s = 300, of = 3, at_least = 3, missing = "breaching"
        dimensions = { DBInstanceIdentifier = local.name }
      }
      database-transaction-ids = {
        tells      = "VACUUM does not keep up: at two thousand million used transaction ids PostgreSQL stops writing"
        namespace  = "AWS/RDS", metric = "MaximumUsedTransactionIDs", statistic = "Maximum"
        above      = 1000000000, period_s = 300, of = 3, at_least = 3, missing = "missing"
        dimensions = { DBInstanceIdentifier = local.name }
      }
    } : name => alarm if local.database_on_rds },
    # credits of small machines: below, they go on at a fifth of their speed
    { for name, alarm in {
      database-credits = {
        tells      = "the database's machine has used up its CPU credits; RDS lends more for money"
        namespace  = "AWS/RDS", metric = "CPUCreditBalance", statistic = "Minimum"
        below      = 30, period_s = 300, of = 3, at_least = 3, missing = "missing"
        dimensions = { DBInstanceIdentifier = local.name }
      }
    } : name => alarm if local.database_on_rds && startswith(var.database_instance_class, "db.t") },
    {
      for number in var.redis ? range(1, var.redis_nodes + 1) : [] : format("redis-memory-%03d", number) => {
        tells      = "Redis' memory is nearly full: it drops what has a time to live"
        namespace  = "AWS/ElastiCache", metric = "DatabaseMemoryUsagePercentage", statistic = "Maximum"
        above      = 90, period_s = 300, of = 3, at_least = 3, missing = "breaching"
        dimensions = { CacheClusterId = format("%s-%03d", local.name, number) }
      }
    },
    {
      for number in var.redis ? range(1, var.redis_nodes + 1) : [] : format("redis-evictions-%03d", number) => {
        tells      = "Redis drops keys before their time"
        namespace  = "AWS/ElastiCache", metric = "Evictions", statistic = "Sum"
        above      = 1000, period_s = 300, of = 3, at_least = 3, missing = "notBreaching"
        dimensions = { CacheClusterId = format("%s-%03d", local.name, number) }
      }
    },
    { for name, alarm in {
      redis-lag = {
        tells      = "Redis' replica is behind: taking over would lose what came since"
        namespace  = "AWS/ElastiCache", metric = "ReplicationLag", statistic = "Maximum"
        above      = 10, period_s = 60, of = 5, at_least = 5, missing = "notBreaching"
        dimensions = { CacheClusterId = format("%s-%03d", local.name, 2) }
      }
    } : name => alarm if var.redis && var.redis_nodes > 1 },
    {
      for name in var.collector_alarm ? ["collector-silent"] : [] : name => {
        tells      = "the collector has written no sign of life for a quarter of an hour: nothing is collected"
        namespace  = local.name, metric = "CollectorAlive", statistic = "Sum"
        below      = 1, period_s = 300, of = 3, at_least = 3, missing = "breaching"
        dimensions = {}
      }
    },
  )
}

resource "aws_cloudwatch_metric_alarm" "one" {
  for_each = local.alarms

  alarm_name          = "${local.name}-${each.key}"
  alarm_description   = each.value.tells
  namespace           = each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = startswith(each.value.statistic, "p") ? null : each.value.statistic
  extended_statistic  = startswith(each.value.statistic, "p") ? each.value.statistic : null
  comparison_operator = can(each.value.above) ? "GreaterThanThreshold" : "LessThanThreshold"
  threshold           = try(each.value.above, each.value.below)
  period              = each.value.period_s
  evaluation_periods  = each.value.of
  datapoints_to_alarm = each.value.at_least
  treat_missing_data  = each.value.missing
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]
}

# fewer tasks than wanted, for longer than a deployment replaces one
resource "aws_cloudwatch_metric_alarm" "tasks_missing" {
  for_each = setsubtract(local.logging_services, ["migrate"])

  alarm_name          = "${local.name}-tasks-missing-${each.key}"
  alarm_description   = "fewer tasks of ${each.key} run than are wanted"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 15
  datapoints_to_alarm = 15
  treat_missing_data  = "notBreaching"
  alarm_actions       = [aws_sns_topic.alerts.arn]
  ok_actions          = [aws_sns_topic.alerts.arn]

  metric_query {
    id          = "missing"
    expression  = "wanted - running"
    label       = "missing tasks"
    return_data = true
  }

  dynamic "metric_query" {
    for_each = { wanted = "DesiredTaskCount", running = "RunningTaskCount" }
    content {
      id = metric_query.key
      metric {
        namespace   = "ECS/ContainerInsights"
        metric_name = metric_query.value
        period      = 60
        stat        = "Minimum"
        dimensions  = { ClusterName = aws_ecs_cluster.main.name, ServiceName = each.key }
      }
    }
  }
}

# the collector's own line, once a minute, JSON as every line in production
resource "aws_cloudwatch_log_metric_filter" "collector_alive" {
  name           = "collector-alive"
  log_group_name = aws_cloudwatch_log_group.service["collector"].name
  pattern        = "{ $.event = \"collector_alive\" }"

  metric_transformation {
    namespace = local.name
    name      = "CollectorAlive"
    value     = "1"
  }
}

# lines of level error and critical, by service: for the dashboard
resource "aws_cloudwatch_log_metric_filter" "errors" {
  for_each = local.logging_services

  name           = "errors-${each.key}"
  log_group_name = aws_cloudwatch_log_group.service[each.key].name
  pattern        = "{ $.level = \"error\" || $.level = \"critical\" }"

  metric_transformation {
    namespace = local.name
    name      = "Errors-${each.key}"
    value     = "1"
  }
}

# --- one page to look at first ---

locals {
  dashboard_widgets = concat(
    [
      { title = "Requests", metrics = [["AWS/ApplicationELB", "RequestCount", "LoadBalancer", aws_lb.main.arn_suffix, { stat = "Sum" }]] },
      {
        title = "Errors by whom"
        metrics = [
          ["AWS/ApplicationELB", "HTTPCode_ELB_5XX_Count", "LoadBalancer", aws_lb.main.arn_suffix, { stat = "Sum" }],
          [".", "HTTPCode_Target_5XX_Count", ".", ".", { stat = "Sum" }],
          [".", "HTTPCode_Target_4XX_Count", ".", ".", { stat = "Sum" }],
        ]
      },
      {
        title = "Answer time in seconds"
        metrics = [for at in ["p50", "p95", "p99"] :
          ["AWS/ApplicationELB", "TargetResponseTime", "LoadBalancer", aws_lb.main.arn_suffix, { stat = at, label = at }]
        ]
      },
      {
        title   = "Tasks that run"
        metrics = [for name in setsubtract(local.logging_services, ["migrate"]) : ["ECS/ContainerInsights", "RunningTaskCount", "ClusterName", aws_ecs_cluster.main.name, "ServiceName", name, { stat = "Minimum", label = name }]]
      },
      {
        title   = "Lines of errors"
        metrics = [for name in local.logging_services : [local.name, "Errors-${name}", { stat = "Sum", label = name }]]
      },
      { title = "Collector's signs of life", metrics = [[local.name, "CollectorAlive", { stat = "Sum" }]] },
      {
        title = "Spool: bytes and operations"
        metrics = [
          ["AWS/EFS", "StorageBytes", "StorageClass", "Total", "FileSystemId", aws_efs_file_system.spool.id, { stat = "Average" }],
          ["AWS/EFS", "PercentIOLimit", "FileSystemId", aws_efs_file_system.spool.id, { stat = "Maximum", yAxis = "right" }],
        ]
      },
    ],
    [for widget in [
      {
        title = "Database: processors and connections"
        metrics = [
          ["AWS/RDS", "CPUUtilization", "DBInstanceIdentifier", local.name, { stat = "Average" }],
          [".", "DatabaseConnections", ".", ".", { stat = "Maximum", yAxis = "right" }],
        ]
      },
      {
        title = "Database: free storage, latency of writes"
        metrics = [
          ["AWS/RDS", "FreeStorageSpace", "DBInstanceIdentifier", local.name, { stat = "Minimum" }],
          [".", "WriteLatency", ".", ".", { stat = "Average", yAxis = "right" }],
        ]
      },
    ] : widget if local.database_on_rds],
    [for widget in [
      {
        title = "Redis: memory and evictions"
        metrics = concat(
          [for number in range(1, var.redis_nodes + 1) : ["AWS/ElastiCache", "DatabaseMemoryUsagePercentage", "CacheClusterId", format("%s-%03d", local.name, number), { stat = "Maximum" }]],
          [for number in range(1, var.redis_nodes + 1) : ["AWS/ElastiCache", "Evictions", "CacheClusterId", format("%s-%03d", local.name, number), { stat = "Sum", yAxis = "right" }]],
        )
      },
    ] : widget if var.redis],
  )
}

resource "aws_cloudwatch_dashboard" "main" {
  dashboard_name = local.name

  dashboard_body = jsonencode({
    widgets = [for place, widget in local.dashboard_widgets : {
      type   = "metric"
      x      = place % 3 * 8
      y      = floor(place / 3) * 6
      width  = 8
      height = 6
      properties = {
        title   = widget.title
        metrics = widget.metrics
        region  = var.region
        view    = "timeSeries"
        period  = 60
      }
    }]
  })
}
