"""What the people who run the hub say to all: announcements, and maintenance, during which nothing is started."""
