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
  description = "Service -> its name in ECS."
  value       = { for name, service in aws_ecs_service.service : name => service.name }
}

output "task_definitions" {
  description = "Service -> the task definition, with its revision, that a release moves it to."
  value       = { for name, definition in aws_ecs_task_definition.service : name => definition.arn }
}

output "desired_counts" {
  description = "Service -> how many there are to be at least: where the autoscaling has made more of them, they stay."
  value       = { for name in keys(local.services) : name => coalesce(local.size[name].count, local.size[name].min) }
}

output "scaled_services" {
  description = "The services whose number the autoscaling moves."
  value       = var.autoscaling ? keys(local.scaled) : []
}

output "images_of_services" {
  description = "Service -> the image it runs; migrate runs the gateway's."
  value       = local.task_repositories
}

output "log_groups" {
  description = "Service, and migrate -> its log group."
  value       = { for name, group in aws_cloudwatch_log_group.service : name => group.name }
}

output "migrate" {
  description = "The one-off task that provisions and migrates, and where it runs."
  value = {
    task_definition = aws_ecs_task_definition.migrate.arn
    container       = "migrate"
    subnets         = [for subnet in aws_subnet.private : subnet.id]
    security_groups = [aws_security_group.service["migrate"].id]
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
