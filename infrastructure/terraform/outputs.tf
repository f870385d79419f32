# What deploy-prod.sh reads.

output "name" {
  description = "The prefix of every name."
  value       = local.name
}

output "region" {
  description = "The region of everything."
  value       = var.region
}

output "account" {
  description = "The account of everything."
  value       = local.account
}

output "url" {
  description = "Where clients ask."
  value       = "https://${var.domain_name}"
}

output "load_balancer" {
  description = "The load balancer's own name, for a CNAME where the domain's zone is elsewhere."
  value       = aws_lb.main.dns_name
}

output "target_group" {
  description = "The gateway's target group."
  value       = aws_lb_target_group.gateway.arn
}

output "cluster" {
  description = "The ECS cluster."
  value       = aws_ecs_cluster.main.name
}

output "cpu_architecture" {
  description = "What images must be built for: X86_64 (linux/amd64) or ARM64 (linux/arm64)."
  value       = var.cpu_architecture
}

output "repositories" {
  description = "Image (gateway, cache, ingestion, analytics, signals) -> its repository's address."
  value       = { for name, repository in aws_ecr_repository.service : name => repository.repository_url }
}

output "services" {
  description = "Service -> its image's repository, the task definition that a release moves it to, and how many there are to be: min where it scales."
  value = {
    for name, service in local.services : name => {
      service         = aws_ecs_service.service[name].name
      repository      = service.repository
      task_definition = aws_ecs_task_definition.service[name].arn
      family          = aws_ecs_task_definition.service[name].family
      desired_count   = coalesce(local.size[name].count, local.size[name].min)
      scales          = contains(keys(local.scaled), name)
      max_count       = local.size[name].max
      lone            = service.lone
      log_group       = aws_cloudwatch_log_group.service[name].name
    }
  }
}

output "migrate" {
  description = "The one-off task that provisions and migrates, and what `aws ecs run-task --network-configuration` takes."
  value = {
    task_definition = aws_ecs_task_definition.migrate.arn
    family          = aws_ecs_task_definition.migrate.family
    container       = "migrate"
    repository      = "gateway"
    log_group       = aws_cloudwatch_log_group.service["migrate"].name
    network_configuration = {
      awsvpcConfiguration = {
        subnets        = [for subnet in aws_subnet.private : subnet.id]
        securityGroups = [aws_security_group.service["migrate"].id]
        assignPublicIp = "DISABLED"
      }
    }
  }
}

output "secrets" {
  description = "Name as in .env -> the ARN of its secret; values are written by deploy-prod.sh."
  value       = { for name, secret in aws_secretsmanager_secret.platform : name => secret.arn }
}

output "vendor_key" {
  description = "Whether DATABENTO_API_KEY must have a value before ingestion starts."
  value       = var.vendor_key
}

output "github_role" {
  description = "The role that GitHub's workflow takes on; null without github_repository."
  value       = one(aws_iam_role.github[*].arn)
}
