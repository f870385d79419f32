locals {
  repositories = toset([for service in local.services : service.repository])
}

resource "aws_ecr_repository" "service" {
  #checkov:skip=CKV_AWS_136:encrypted with KMS, by the account's own key of ECR: what is in the images is the repository's
  for_each = local.repositories

  name                 = "${local.name}/${each.key}"
  image_tag_mutability = "IMMUTABLE"

  image_scanning_configuration {
    scan_on_push = true
  }

  encryption_configuration {
    encryption_type = "KMS"
  }

  # images can be built again from their commit
  force_delete = !var.deletion_protection
}

resource "aws_ecr_lifecycle_policy" "service" {
  for_each = aws_ecr_repository.service

  repository = each.value.name
  policy = jsonencode({
    rules = [
      {
        rulePriority = 1
        description  = "what a later push left without a tag"
        selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 14 }
        action       = { type = "expire" }
      },
      {
        rulePriority = 2
        description  = "as far back as one rolls back"
        selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = 40 }
        action       = { type = "expire" }
      },
    ]
  })
}

locals {
  images = { for name in local.repositories : name => lookup(var.images, name, "${aws_ecr_repository.service[name].repository_url}:none") }
}
