output "host" {
  description = "The name that clients connect to, and that the certificate names."
  value       = aws_network_interface.main.private_dns_name
}

output "master_secret_arn" {
  description = "The secret whose JSON key `password` is the administrator's."
  value       = aws_secretsmanager_secret.master.arn
}

output "security_group_id" {
  description = "The group by which the instance reaches AWS and packages."
  value       = aws_security_group.out.id
}
