# The spool: what ingestion was given, synced before anything is promised about it, until it is stored. The web service,
# the worker, the collector and the backfiller share it, and a Fargate task's own disk dies with the task: so EFS.
#
# fsync: on NFS it is a COMMIT, which EFS answers when the data lie in several zones; some milliseconds, against a sync
# every LIVE_SYNC_MS = 100. Losing all of it loses no record for good: what was not stored yet is asked from the vendor
# again (24 hours back live, any time from history), and until then a gap row names the interval;
# tests/data_ingestion/test_lost_disk.py shows it. What is lost for good is an upload that waits and that its sender has
# not kept. It is no archive: a part goes as soon as its records are stored, so backups of it would hold nothing.

resource "aws_efs_file_system" "spool" {
  encrypted        = true
  kms_key_id       = aws_kms_key.data.arn
  performance_mode = "generalPurpose"
  throughput_mode  = var.spool_throughput

  tags = { Name = "${local.name}-spool" }
}

resource "aws_efs_mount_target" "spool" {
  for_each = aws_subnet.data

  file_system_id  = aws_efs_file_system.spool.id
  subnet_id       = each.value.id
  security_groups = [aws_security_group.efs.id]
}

resource "aws_efs_access_point" "spool" {
  file_system_id = aws_efs_file_system.spool.id

  # the images' user
  posix_user {
    uid = 10001
    gid = 10001
  }

  root_directory {
    path = "/spool"
    creation_info {
      owner_uid   = 10001
      owner_gid   = 10001
      permissions = "0700"
    }
  }

  tags = { Name = "${local.name}-spool" }
}

resource "aws_efs_file_system_policy" "spool" {
  file_system_id = aws_efs_file_system.spool.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "TlsOnly"
        Effect    = "Deny"
        Principal = { AWS = "*" }
        Action    = "*"
        Resource  = aws_efs_file_system.spool.arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
      {
        Sid       = "MountTargetsOnlyByTheAccessPoint"
        Effect    = "Allow"
        Principal = { AWS = "*" }
        Action    = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"]
        Resource  = aws_efs_file_system.spool.arn
        Condition = {
          Bool         = { "elasticfilesystem:AccessedViaMountTarget" = "true" }
          StringEquals = { "elasticfilesystem:AccessPointArn" = aws_efs_access_point.spool.arn }
        }
      },
    ]
  })
}
