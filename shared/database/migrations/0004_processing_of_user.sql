-- How much of a user is in work is counted at each upload: among what is in work, not among all that he ever had.
create index videos_processing_of_user on videos (user_id) where status = 'processing';
