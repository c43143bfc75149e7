"""What is made of finished views: statistics by group, pictures, reports."""
