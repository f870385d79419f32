resource "aws_ecs_cluster" "main" {
  name = local.name

  setting {
    name  = "containerInsights"
    value = var.container_insights
  }

  configuration {
    # who does what in a shell of ECS Exec is written down
    execute_command_configuration {
      kms_key_id = aws_kms_key.logs.arn
      logging    = "OVERRIDE"

      log_configuration {
        cloud_watch_encryption_enabled = true
        cloud_watch_log_group_name     = aws_cloudwatch_log_group.execute_command.name
      }
    }
  }
}

resource "aws_ecs_cluster_capacity_providers" "main" {
  cluster_name       = aws_ecs_cluster.main.name
  capacity_providers = ["FARGATE"]
}

resource "aws_cloudwatch_log_group" "execute_command" {
  #checkov:skip=CKV_AWS_338:kept as long as log_retention_days says
  name              = "/${local.name}/execute-command"
  retention_in_days = var.log_retention_days
  kms_key_id        = aws_kms_key.logs.arn
}
